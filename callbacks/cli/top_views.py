"""What `callbacks top` can show: the status of one Redis, or a line for each cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from rich.console import RenderableType

from callbacks.cli.top_cells_layout import render_cells
from callbacks.cli.top_layout import render_status, spool_lines
from callbacks.ops.status import cell_rows, service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.status_json import cells_as_json, status_as_json
from callbacks.ops.status.web_spools import read_web_spools
from shared import connections
from shared.cells_reader import CellReading
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
        to_json_object=status_as_json,
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
        to_json_object=cells_as_json,
        is_whole=lambda found: all(one.value is not None for one in found),
        close=reader.close,
    )
