"""CPU of a callback with 1, 2 and 4 cells, each a Redis with its own web, expand and deliver process.

First each cell gets the same number of callbacks a second, all cells at the same time: a callback that costs the same
with any number of cells is what lets cells on machines of their own add up. Then all are loaded from 64 connections
each, as fast as they answer: what this machine can do, whose cores they share. Last, two cells behind HAProxy with
deploy/haproxy/cells.cfg, without TLS, and 16 URLs: what the proxy itself takes.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final

from benchmarks import command, machine, open_loop, wrk
from benchmarks.command import Run, Scale
from benchmarks.cost import CPU, PER_SECOND, per_callback, wait_until_settled
from benchmarks.deployment import REPOSITORY, Deployment, TargetUrl
from benchmarks.measurements import Measurements
from callbacks.cli.ports import free_port

TABLE: Final = "a callback, by cells"
PROXIED: Final = "two cells behind HAProxy, 16 URLs"
PROXY_CPU: Final = "CPU of haproxy, µs"
FULL_CPU: Final = "at full load: CPU, µs"
FULL_RATE: Final = "at full load: callbacks/s on these cores"
CELLS: Final = (1, 2, 4)
_URLS: Final = 16
_CONNECTIONS: Final = 64
_TOKENS: Final = ",".join(f"c{number}=benchmark-token-{number:02}" for number in range(_URLS))
# Callbacks a second for each cell; four cells are below what two cores can do.
EQUAL_RATE: Final = 150.0
_RATE_FIRST: Final = 70_000_000_000
# Each generator sends numbers of its own.
_NUMBERS: Final = 1_000_000_000


def measure(run: Run) -> None:
    """Make the table."""
    points = CELLS[:2] if run.scale.name == "tiny" else CELLS
    run.compare(TABLE, {str(number): partial(_cells, run.scale, number) for number in points})
    if why := machine.missing("haproxy"):
        run.absent[PROXIED] = why
    else:
        run.compare(PROXIED, {"HAProxy": partial(_behind_proxy, run.scale)})
    run.remarks.append(f"The load generators share the cores with the cells: {FULL_RATE!r} measures this machine.")


def _cells(scale: Scale, number: int) -> Measurements:
    with ExitStack() as stack:
        cells = [stack.enter_context(Deployment()) for _ in range(number)]
        urls = [cell.service() for cell in cells]
        _at_full_speed(urls, _CONNECTIONS, 1, wrk.WARM_UP_FIRST)
        seconds = scale.load_seconds
        measured = per_callback(cells, partial(_at_rate, urls, EQUAL_RATE, seconds, _RATE_FIRST), wait_until_settled)
        full = per_callback(cells, partial(_at_full_speed, urls, _CONNECTIONS, seconds, 0), wait_until_settled)
        return measured | {FULL_CPU: full[CPU], FULL_RATE: full[PER_SECOND]}


def _behind_proxy(scale: Scale) -> Measurements:
    with ExitStack() as stack:
        cells = [stack.enter_context(Deployment()) for _ in range(2)]
        port = free_port()
        text = (REPOSITORY / "deploy" / "haproxy" / "cells.cfg").read_text()
        text = re.sub(r"bind :443 .*", f"bind 127.0.0.1:{port}", text)
        for written, cell in zip(("127.0.0.1:8080", "127.0.0.1:8090"), cells, strict=True):
            text = text.replace(written, f"127.0.0.1:{cell.service(CALLBACKS_TOKENS=_TOKENS).port}")
        config = cells[0].folder / "haproxy.cfg"
        config.write_text(text)
        urls = [TargetUrl(port, f"/callbacks/benchmark-token-{number:02}/status") for number in range(_URLS)]
        cells[0].serve("haproxy", ["haproxy", "-db", "-f", str(config)], urls[0])
        connections = 2 * _CONNECTIONS // _URLS
        _at_full_speed(urls, connections, 1, wrk.WARM_UP_FIRST)
        load = partial(_at_full_speed, urls, connections, scale.load_seconds, 0)
        return per_callback(cells, load, wait_until_settled)


def _at_full_speed(urls: Sequence[TargetUrl], connections: int, seconds: float, first: int) -> int:
    def send(url: TargetUrl, number: int) -> int:
        return wrk.load(url, connections=connections, seconds=seconds, first=first + number * _NUMBERS).requests

    with ThreadPoolExecutor(len(urls)) as generators:
        return sum(generators.map(send, urls, range(len(urls))))


def _at_rate(urls: Sequence[TargetUrl], rate: float, seconds: float, first: int) -> int:
    sending = [open_loop.start(url, rate, seconds, first + number * _NUMBERS) for number, url in enumerate(urls)]
    return sum(open_loop.result(one).sent for one in sending)


if __name__ == "__main__":
    command.main("cells", measure, "What a callback costs with several cells, and behind a proxy that spreads it.")
