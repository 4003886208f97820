"""A report and a reply as the gateway tells them, and the events that they become."""

import json
from datetime import UTC, datetime
from typing import Any

from shared import callback_events, wire
from shared.events import Event, ReplyEvent, ReportEvent

RECEIVED = datetime(2015, 9, 25, 7, 12, 55, 987654, tzinfo=UTC)
REPORT: dict[str, Any] = {
    "type": "SMS",
    "message_id": "14466445287300014003",
    "status": "DELIVRD",
    "timestamp": 1443165174,
    "micro_timestamp": 1443165174145,
    "to": "35679000123",
    "from": "Fortytwo",
    "client_message_id": "c-1",
    "error_code": 943,
}
STATUS: dict[str, Any] = {"api_job_id": "8de46f30-6b0f", "client_job_id": "autumn", "data": [REPORT]}
REPLY: dict[str, Any] = {
    "api_job_id": "8de46f30-6b0f",
    "client_job_id": "",
    "reply_message_id": "14466445287300014999",
    "orig_message_id": "14466445287300014003",
    "req_uuid": "0b8ae9b2-2f0f",
    "channel": "VIBER",
    "timestamp": 1443165174,
    "micro_timestamp": 1443165174145,
    "from": "35679000123",
    "to": "Fortytwo",
    "message": {"text": "Grüße 👋🏽"},
}


def read(body: dict[str, Any] | bytes) -> list[Event]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return list(callback_events.from_callback(wire.read(raw, None), source="main", received_at=RECEIVED))


def report(**keys: Any) -> ReportEvent:
    (event,) = read({**STATUS, "data": [{**REPORT, **keys}]})
    assert isinstance(event, ReportEvent)
    return event


def reply(**keys: Any) -> ReplyEvent:
    (event,) = read({**REPLY, **keys})
    assert isinstance(event, ReplyEvent)
    return event
