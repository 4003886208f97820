"""A database under test, processes that write to it, and the events of these tests."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from callbacks import Event, ReplyEvent, ReportEvent
from shared import events
from tests.environment import stripped_environment
from workers.handlers.sql.database_url import DatabaseUrl, open_engine
from workers.handlers.sql.event_store import EventStore
from workers.handlers.sql.writer import write_events

REPOSITORY = Path(__file__).parents[3]
BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)


def report(status: str = "DELIVRD", *, seconds: float | None = 0, **fields: Any) -> ReportEvent:
    """Return a report that occurred `seconds` after BEGAN (None: no time) and was received 60 s later."""
    occurred_at = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    given: dict[str, Any] = {
        "source": "main",
        "api_job_id": "job-1",
        "client_job_id": "autumn",
        "message_id": "14466445287300014003",
        "client_message_id": "c-1",
        "channel": "SMS",
        "status": status,
        "is_final": status in events.FINAL_STATUSES,
        "occurred_at": occurred_at,
        "sender": "Fortytwo",
        "recipient": "35679000123",
        "error_code": 0,
        "received_at": (occurred_at or BEGAN) + timedelta(seconds=60),
        "raw": {"status": status},
        **fields,
    }
    if "id" not in given:
        occurred_ms = None if occurred_at is None else round(occurred_at.timestamp() * 1000)
        given["id"] = events.report_id(
            given["source"], given["message_id"], given["channel"], status, given["recipient"], occurred_ms, 0
        )
    return ReportEvent(**given)


def reply(text: str | None = "Yes", **fields: Any) -> ReplyEvent:
    """Return a reply to the message of `report`, ten minutes after BEGAN."""
    given: dict[str, Any] = {
        "source": "main",
        "api_job_id": "job-1",
        "client_job_id": None,
        "reply_message_id": "r-1",
        "orig_message_id": "14466445287300014003",
        "req_uuid": "u-1",
        "channel": "VIBER",
        "occurred_at": BEGAN + timedelta(minutes=10),
        "sender": "35679000123",
        "recipient": "Fortytwo",
        "text": text,
        "received_at": BEGAN + timedelta(minutes=11),
        "raw": {"message": {"text": text}},
        **fields,
    }
    if "id" not in given:
        given["id"] = events.reply_id(given["source"], given["reply_message_id"])
    return ReplyEvent(**given)


class Database:
    """One database, written to as the handler does, and read directly."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = DatabaseUrl.parse(url)
        self.store = EventStore(self.address, write_events, retry_seconds=0)

    def write(self, *given: Event) -> None:
        self.store.write(given)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a SQL statement, with texts as stored."""
        engine = open_engine(self.address)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(statement))
                return [dict(row) for row in result.mappings()] if result.returns_rows else []
        finally:
            engine.dispose()

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return a whole table, sorted by the values of its columns."""
        return sorted(self.rows(f"SELECT * FROM callbacks_{name}"), key=lambda row: str(list(row.values())))

    @property
    def message(self) -> dict[str, Any]:
        (row,) = self.table("messages")
        return row

    def close(self) -> None:
        self.store.close()


def process(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, with `sql` and `events` imported; it answers on stdout."""
    prelude = "import os, sys, time\nfrom shared import events\nfrom workers.handlers.sql.handler import sql\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, *arguments],
        cwd=REPOSITORY,
        env={**stripped_environment(), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def encoded(given: Sequence[Event]) -> str:
    """Return events as a process decodes them: `events.decode(…)`."""
    return "[" + ",".join(events.encode(event).decode() for event in given) + "]"
