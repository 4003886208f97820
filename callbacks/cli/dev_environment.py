"""What `callbacks dev` sets for its processes: what belongs to this machine and its folder; the rest is the user's."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from callbacks.cli import kept_secret, ports
from shared import connections, settings
from shared.settings import Settings
from workers import activity

# Writes each event to the file `events.jsonl`, also those that no other handler wants.
_OWN_HANDLER: Final = "log"


class DevEnvironment(Struct, frozen=True):
    """The addresses of a `callbacks dev`, what its processes get in their environment, and what it says of both.

    `callbacks_url` is the base of the callback URLs on this machine. `hidden_handlers` were not named by the user: only
    their failures are shown.
    """

    url: str
    ops_url: str
    callbacks_url: str
    handlers: str
    variables: Mapping[str, str]
    hidden_handlers: frozenset[str] = frozenset()
    remarks: Sequence[str] = ()


def load(*, port: int | None) -> Settings:
    """Return the user's settings, with a port that is not 0. Raise ConfigurationError.

    Those of Redis are not read, as dev has its own.
    """
    loaded = settings.load(unused=("REDIS_URL", "CALLBACKS_CELLS", "CALLBACKS_DURABILITY"))
    return replace(loaded, port=port or loaded.port or ports.free_port())


def make(loaded: Settings, folder: Path) -> DevEnvironment:
    """Return the environment of the processes, with their files in `folder`. Raise NoPort."""
    url = _local_url(loaded.host, loaded.port, "--port")
    ops_port = _ops_port(loaded, folder)
    ops_url = _local_url(loaded.ops_host, ops_port, "CALLBACKS_OPS_PORT")
    handlers = ",".join(dict.fromkeys((_OWN_HANDLER, *loaded.handlers)))
    variables = {
        "HOST": loaded.host,
        "PORT": str(loaded.port),
        "CALLBACKS_OPS_HOST": loaded.ops_host,
        "CALLBACKS_OPS_PORT": str(ops_port),
        "CALLBACKS_ALLOWED_IPS": _allowed_ips(loaded, url),
        "CALLBACKS_HANDLERS": handlers,
        "CALLBACKS_LOG_FILE": str((folder / "events.jsonl").resolve()),
        "CALLBACKS_SPOOL_DIR": str(folder / "spool"),
        "CALLBACKS_RUN_DIR": str(folder / "run"),
        "CALLBACKS_LOG_LEVEL": os.environ.get("CALLBACKS_LOG_LEVEL") or "WARNING",
        "CALLBACKS_DURABILITY": "fsync",
        "CALLBACKS_CELLS": "",
        activity.VARIABLE: "1",
    }
    if loaded.tokens:
        token = loaded.tokens[0].secret
    else:
        token = kept_secret.read(folder / "token")
        variables["CALLBACKS_TOKENS"] = f"dev={token}"
    return DevEnvironment(
        url,
        ops_url,
        f"{url}/callbacks/{token}",
        handlers,
        variables,
        hidden_handlers=frozenset((_OWN_HANDLER,)) - set(loaded.handlers),
        remarks=tuple(_remarks(loaded, folder)),
    )


def is_redis_set() -> bool:
    """Return whether the user has set a Redis, which other commands then use."""
    return bool(os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE"))


def _local_url(host: str, port: int, option: str) -> str:
    try:
        return ports.local_url(host, port)
    except ports.NoPort as exc:
        if not exc.is_in_use:
            raise
        raise ports.NoPort(f"{exc}: end what uses it, or set another with {option}", is_in_use=True) from exc


def _ops_port(loaded: Settings, folder: Path) -> int:
    if os.environ.get("CALLBACKS_OPS_PORT") and loaded.ops_port:
        return loaded.ops_port
    return ports.kept_port(folder / "ops-port")


def _allowed_ips(loaded: Settings, url: str) -> str:
    """Return the user's, and this machine's."""
    own = urlsplit(url).hostname or ""
    return ",".join(dict.fromkeys((*map(str, loaded.allowed_ips), "127.0.0.1", "::1", own)))


def _remarks(loaded: Settings, folder: Path) -> list[str]:
    if not is_redis_set():
        return []
    variable = "REDIS_URL" if os.environ.get("REDIS_URL") else "REDIS_URL_FILE"
    address = f" ({connections.redact_url(loaded.redis_url)})" if loaded.redis_url else ""
    return [f"{variable}{address} is not used here: `callbacks dev` runs a Redis of its own, in {folder}."]
