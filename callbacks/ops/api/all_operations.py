"""The table of all operations of `/api`."""

from collections.abc import Iterator, Sequence
from typing import Any

import redis

from callbacks.ops.api import problems, status_operations
from callbacks.ops.api.operations import AnyQuery, Call, Operation
from callbacks.ops.status.overdue import OverdueCounter
from shared.settings import Settings
from workers.admin.number_views import NumberViews

# What needs the libraries of the handler `sql`, an extra.
_HISTORY_PATHS = ("/api/messages", "/api/messages/{id:path}", "/api/events", "/api/stats", "/api/jobs")


def operations(
    client: redis.Redis, settings: Settings, number_views: NumberViews, overdue: OverdueCounter | None
) -> Sequence[Operation]:
    """Return all operations."""
    of_status = status_operations.operations(client, settings, overdue)
    try:
        from callbacks.ops.api import history_operations  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name not in ("sqlalchemy", "alembic"):
            raise
        return (*_without_history(str(exc)), *of_status)
    return (*history_operations.operations(client, settings, number_views), *of_status)


def _without_history(problem: str) -> Iterator[Operation]:
    """Yield operations that only say which package is missing."""

    def refuse(_: Call) -> Any:
        raise problems.missing_extra(problem)

    for path in _HISTORY_PATHS:
        yield Operation(
            name=path.split("/")[2], path=path, summary=problem, call=refuse, query=AnyQuery, results=(Any,)
        )
