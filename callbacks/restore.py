"""Restores events from their record as received, with the same parser as when they came."""

from datetime import datetime
from typing import Any

import msgspec

from callbacks import Event, ReplyEvent, ReportEvent
from shared import callback_events, wire
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Kind


def report(
    raw: dict[str, Any], *, api_job_id: str | None, client_job_id: str | None, source: str, received_at: datetime
) -> ReportEvent | None:
    """Return the report of a record; the ids of its job are not part of it. None if this release cannot read it."""
    body = {"api_job_id": api_job_id, "client_job_id": client_job_id, "data": [raw]}
    event = _read_event(body, "status", source, received_at)
    # `raw` is the stored record, without the keys that the parser adds from outside `data`.
    return msgspec.structs.replace(event, raw=raw) if isinstance(event, ReportEvent) else None


def reply(raw: dict[str, Any], *, source: str, received_at: datetime) -> ReplyEvent | None:
    """Return the reply of a callback. None if this release cannot read it."""
    event = _read_event(raw, "reply", source, received_at)
    return event if isinstance(event, ReplyEvent) else None


def _read_event(body: dict[str, Any], kind: Kind, source: str, received_at: datetime) -> Event | None:
    try:
        callback = wire.read(msgspec.json.encode(body), kind)
    except (NotJson, UnexpectedShape):
        return None
    return next(callback_events.from_callback(callback, source=source, received_at=received_at), None)
