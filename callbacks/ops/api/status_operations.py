"""The operations of `/api` that read Redis alone: the service's health; and a handler's pause, which they change."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

import redis
from msgspec import Struct

from callbacks.ops.api import problems
from callbacks.ops.api.operations import Call, Operation
from callbacks.ops.status import alerts, cell_rows, service_status
from callbacks.ops.status.alerts import Alert
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.overdue import OverdueCounter
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.status_json import cells_as_json, status_as_json
from callbacks.ops.status.summary import REDIS_UNAVAILABLE, StatusSummary, SummaryLevel, summarize, summarize_cells
from shared.settings import Settings
from workers.admin.action_log import Action, ActionLog
from workers.failures.failure_list import handler_names
from workers.runtime import pause
from workers.runtime.pause import PausedBy

_SUMMARIES: Final[dict[Literal["pause", "resume"], str]] = {
    "pause": "Pause a handler. New events wait; calls in progress finish.",
    "resume": "Resume a handler.",
}


class HealthForm(Struct, frozen=True, kw_only=True):
    """How the service is in a word and a sentence, and what is wrong; then all that `callbacks top --json` prints."""

    level: SummaryLevel
    summary: str
    alerts: list[Alert]


class HandlerPauseForm(Struct, frozen=True, kw_only=True):
    """Whether a handler is paused, by whom, since and until when."""

    handler: str
    paused: bool
    by: PausedBy | None = None
    since: datetime | None = None
    until: datetime | None = None


def operations(client: redis.Redis, settings: Settings, overdue: OverdueCounter | None) -> Sequence[Operation]:
    """Return the operations."""
    action_log = ActionLog(client)
    audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)
    cells = cell_rows.open_reader(settings) if settings.cells else None

    def read() -> ServiceStatus:
        return service_status.with_overdue(service_status.read_status(client, settings, audit_cache), overdue)

    def health(_: Call) -> dict[str, Any]:
        if cells is None:
            found = read()
            current = alerts.find_alerts(found)
            return _health(summarize(current, found.balance), current) | status_as_json(found)
        readings = cells.read()
        rows = [cell_rows.to_row(one) for one in readings]
        every = [alert for row in rows for alert in row.alerts]
        own = StatusSummary("good", "") if rows else REDIS_UNAVAILABLE
        return _health(summarize_cells(rows, own), every) | cells_as_json(readings)

    def change(what: Literal["pause", "resume"], call: Call) -> HandlerPauseForm:
        handler = call.path["handler"]
        if handler not in handler_names(client):
            raise problems.not_found("There is no such handler.")
        action = Action(who=call.token.name, by="api", what=what, where=f"handler:{handler}")
        with action_log.record(action):
            if what == "pause":
                pause.pause(client, handler)
            else:
                pause.resume(client, handler)
        state = pause.read_state(client, handler)
        if state is None:
            return HandlerPauseForm(handler=handler, paused=False)
        return HandlerPauseForm(handler=handler, paused=True, by=state.by, since=state.since, until=state.until)

    return (
        Operation(name="health", path="/api/health", summary="How the service is.", call=health, results=(HealthForm,)),
        *(
            Operation(
                name=what,
                method="POST",
                path=f"/api/handlers/{{handler}}/{what}",
                summary=summary,
                call=partial(change, what),
                results=(HandlerPauseForm,),
                role="act",
                problems=(404,),
            )
            for what, summary in _SUMMARIES.items()
        ),
    )


def _health(summary: StatusSummary, current: Sequence[Alert]) -> dict[str, Any]:
    return {"level": summary.level, "summary": summary.words, "alerts": list(current)}
