"""Events of the past, made anew from their record as received: by the same reading as when it came."""

from datetime import datetime
from typing import Any

import msgspec

from callbacks import Event, ReplyEvent, ReportEvent
from shared import events, wire
from shared.errors import NotJson, UnexpectedShape


def report(
    raw: dict[str, Any], *, api_job_id: str | None, client_job_id: str | None, source: str, received_at: datetime
) -> ReportEvent | None:
    """Read the record of a report; the job's ids stood beside it. None where this release cannot read it."""
    body = {"api_job_id": api_job_id, "client_job_id": client_job_id, "data": [raw]}
    event = _read_event(body, "status", source, received_at)
    # What stood beside `data` is in the record by now, and was none of it.
    return msgspec.structs.replace(event, raw=raw) if isinstance(event, ReportEvent) else None


def reply(raw: dict[str, Any], *, source: str, received_at: datetime) -> ReplyEvent | None:
    """Read a reply. None where this release cannot read it."""
    event = _read_event(raw, "reply", source, received_at)
    return event if isinstance(event, ReplyEvent) else None


def _read_event(body: dict[str, Any], kind: wire.Kind, source: str, received_at: datetime) -> Event | None:
    try:
        callback = wire.read(msgspec.json.encode(body), kind)
    except (NotJson, UnexpectedShape):
        return None
    return next(events.from_callback(callback, source=source, received_at=received_at), None)
