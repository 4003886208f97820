"""The spools of the web processes, asked of their own /metrics: they know of them also while Redis is unavailable.

Each address of a name is asked, as of a headless Service of Kubernetes, all at the same time and for two seconds at
most. It changes nothing.
"""

import asyncio
import math
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from shared.setting_values import HostPort
from shared.tracebacks import type_name

_TIMEOUT_SECONDS: Final = 2.0
# A web process with a hundred tokens has some 60 KB.
_MAX_BYTES: Final = 4 << 20
# More than a deployment has. Of others nothing is said.
_MAX_PROCESSES: Final = 64
_PREFIX: Final = "callbacks_web_"


class WebSpool(Struct, frozen=True, kw_only=True):
    """What the web processes behind one address say of their spool.

    `states` and `destinations` are those of the processes (`ingest/spool/report.py`); `destinations` are where a
    callback that came now would be stored: "redis", "spool" or "none". `refused` are callbacks that nothing could
    store; the gateway sends the first of them for another `refused_left_seconds`. `problem` says why nothing is known.
    """

    address: str
    problem: str = ""
    states: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    callbacks: int = 0
    size_bytes: int = 0
    limit_bytes: int = 0
    full_in_seconds: float | None = None
    refused: int = 0
    refused_left_seconds: float = 0.0

    @property
    def keeps_callbacks(self) -> bool:
        """Whether every process stores a callback that comes now."""
        return not self.problem and bool(self.destinations) and "none" not in self.destinations


def read_web_spools(processes: Sequence[HostPort]) -> tuple[WebSpool, ...]:
    """Return what each of `processes` says. It must not be called where an event loop runs."""
    return asyncio.run(_read_all(processes)) if processes else ()


async def _read_all(processes: Sequence[HostPort]) -> tuple[WebSpool, ...]:
    found = await asyncio.gather(*(_read_named(one) for one in processes))
    return tuple(spool for spools in found for spool in spools)[:_MAX_PROCESSES]


async def _read_named(process: HostPort) -> list[WebSpool]:
    """Return what the processes at all addresses of a name say."""
    loop = asyncio.get_running_loop()
    try:
        infos = await asyncio.wait_for(
            loop.getaddrinfo(process.host, process.port, type=socket.SOCK_STREAM), _TIMEOUT_SECONDS
        )
    except (OSError, TimeoutError) as exc:
        return [WebSpool(address=str(process), problem=f"its address cannot be found ({type_name(exc)})")]
    addresses = sorted({(family, info[0]) for family, *_, info in infos if isinstance(info[0], str)})[:_MAX_PROCESSES]
    read = await asyncio.gather(*(_read_address(HostPort(host, process.port)) for _, host in addresses))
    answered = {family for (family, _), spool in zip(addresses, read, strict=True) if not spool.problem}
    # A process may listen to one version of IP alone: the other is then no process.
    return [spool for (family, _), spool in zip(addresses, read, strict=True) if not answered or family in answered]


async def _read_address(at: HostPort) -> WebSpool:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            text = await _fetch(at)
        return _parse(str(at), text)
    except (OSError, TimeoutError, ValueError, KeyError) as exc:
        return WebSpool(address=str(at), problem=f"it does not answer ({type_name(exc)})")


async def _fetch(at: HostPort) -> str:
    """Return the body of GET /metrics. Raise OSError, and ValueError if it is no such thing."""
    reader, writer = await asyncio.open_connection(at.host, at.port)
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n".encode())
        received = b""
        while len(received) <= _MAX_BYTES and (part := await reader.read(1 << 16)):
            received += part
    finally:
        writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0] or len(received) > _MAX_BYTES:
        raise ValueError("not the metrics of a web process")
    return body.decode()


def _parse(address: str, text: str) -> WebSpool:
    """Return what the metrics say. Raise KeyError if they are not those of a web process."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    plain = {sample.name: sample.value for sample in samples if not sample.labels}

    def number(name: str) -> float:
        return plain[f"{_PREFIX}{name}"]

    full_in_seconds = number("spool_full_in_seconds")
    return WebSpool(
        address=address,
        states=_values(samples, "spool_state", "state"),
        destinations=_values(samples, "destination", "destination"),
        callbacks=int(number("spool_callbacks")),
        size_bytes=int(number("spool_bytes")),
        limit_bytes=int(number("spool_limit_bytes")),
        full_in_seconds=full_in_seconds if math.isfinite(full_in_seconds) else None,
        refused=int(number("refused_unstored")),
        refused_left_seconds=number("refused_retry_left_seconds"),
    )


def _values(samples: Iterable[Any], name: str, label: str) -> tuple[str, ...]:
    """Return the values that at least one process has."""
    return tuple(sample.labels[label] for sample in samples if sample.name == f"{_PREFIX}{name}" and sample.value)
