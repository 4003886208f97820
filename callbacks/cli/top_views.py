"""What `callbacks top` can show: the status of one Redis, or a line for each cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from rich.console import RenderableType

from callbacks.cli.top_cells_layout import render_cells
from callbacks.cli.top_layout import render_status, spool_lines
from callbacks.ops.status import cell_rows, service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.web_spools import read_web_spools
from shared import connections
from shared.cells_reader import CellReading
from shared.events import rfc3339
from shared.settings import Settings

T = TypeVar("T")
CellReadings: TypeAlias = tuple[CellReading[ServiceStatus], ...]


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """How something is read over connections of its own, and shown. `read` raises redis.RedisError."""

    name: str
    read: Callable[[], T]
    render: Callable[[T, int], RenderableType]
    """For a terminal with this number of columns."""
    to_json_object: Callable[[T], dict[str, Any]]
    is_whole: Callable[[T], bool]
    """Whether nothing of it could not be read."""
    close: Callable[[], None]
    describe_outage: Callable[[], Sequence[str]] = tuple
    """While nothing can be read: the lines that say what web processes do with callbacks."""


def view_status(settings: Settings) -> View[ServiceStatus]:
    """Return the view of the Redis in `settings`."""
    client = connections.connect(settings.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)
    return View(
        connections.redact_url(settings.redis_url),
        read=lambda: service_status.read_status(client, settings, audit_cache),
        render=lambda found, columns: render_status(found, columns=columns),
        to_json_object=_status_as_json,
        is_whole=lambda _: True,
        close=client.close,
        describe_outage=lambda: spool_lines(read_web_spools(settings.web_metrics)),
    )


def view_cells(settings: Settings) -> View[CellReadings]:
    """Return the view of the cells in `settings`. One that cannot be read is shown as such."""
    reader = cell_rows.open_reader(settings)
    return View(
        "CALLBACKS_CELLS",
        read=reader.read,
        render=lambda found, _: render_cells([cell_rows.to_row(one) for one in found]),
        to_json_object=_cells_as_json,
        is_whole=lambda found: all(one.value is not None for one in found),
        close=reader.close,
    )


def _status_as_json(found: ServiceStatus) -> dict[str, Any]:
    """Return the status with its time in RFC 3339, and what it says as a whole."""
    fields: dict[str, Any] = msgspec.to_builtins(found)
    return fields | {
        "at": rfc3339(found.at),
        "durable": found.durable,
        "gateway_gives_up_in_seconds": found.gateway_gives_up_in_seconds,
    }


def _cells_as_json(found: CellReadings) -> dict[str, Any]:
    """Return each cell's status, or why it cannot be read, and the names of those that cannot."""
    return {
        "unavailable": [one.cell for one in found if one.value is None],
        "cells": [
            {"cell": one.cell, "redis_url": one.redis_url}
            | ({"error": one.problem} if one.value is None else _status_as_json(one.value))
            for one in found
        ],
    }
