"""Three everyday handlers: refund a failed message, answer a reply, alert when too many messages fail.

    CALLBACKS_HANDLERS=sql,examples.everyday

    DATABASE_URL          the tables of the handler `sql`, in which `refund` looks for an arrival on another channel
    EVERYDAY_REFUND_AFTER_SECONDS   how old a failure must be before it is refunded; default: 900
    EVERYDAY_FOLDER       the folder of their SQLite database; default: var/everyday
    EVERYDAY_ANSWER_URL   gets a POST of {"to": …, "text": …} for each answer
    EVERYDAY_ALERT_URL    gets a POST of {"text": …} for each alert

If a worker dies while it handles an event, the event comes again. So each handler stores the event's `id` with its
effect. Each POST also has the `id` as Idempotency-Key, in case the worker died after the POST and before it was stored.
"""

import asyncio
import json
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler, history, phone_numbers

THANKS: Final = "Thank you, we will call you."
# At most one answer an hour to each sender, who may be a machine that answers automatically too.
ANSWER_INTERVAL_SECONDS: Final = 3600
# An alert is due if, of the messages that ended within ten minutes, at least this many and this share failed.
WINDOW_SECONDS: Final = 600
MIN_FAILURES: Final = 20
MIN_SHARE: Final = 0.2
ALERT_INTERVAL_SECONDS: Final = 3600
# The gateway tries another channel within minutes, and repeats a callback for ten minutes.
REFUND_AFTER_SECONDS: Final = 900
FAILURES: Final = frozenset(("UNDELIV", "REJECTD", "EXPIRED"))

_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS credits (message_id TEXT PRIMARY KEY, order_no TEXT, event_id TEXT);
    CREATE TABLE IF NOT EXISTS answers (event_id TEXT PRIMARY KEY, sender TEXT, at REAL);
    CREATE TABLE IF NOT EXISTS ends (event_id TEXT PRIMARY KEY, at REAL, failed INTEGER);
    CREATE INDEX IF NOT EXISTS ends_at ON ends (at);
    CREATE TABLE IF NOT EXISTS alerts (event_id TEXT PRIMARY KEY, at REAL, text TEXT, sent INTEGER);
"""


# One call waits until the failure is old enough; the others outlast half a day without the tables of `sql`.
@handler(ReportEvent, statuses=FAILURES, attempts=24)
def refund(event: ReportEvent) -> None:
    """Credit the customer for a message that arrived on no channel, once for each message.

    A status and `is_final` are about one channel. After UNDELIV on Viber, the gateway may still send the message by
    SMS. So this waits, and asks the history for an arrival before it acts.
    """
    wait_seconds = float(os.environ.get("EVERYDAY_REFUND_AFTER_SECONDS") or REFUND_AFTER_SECONDS)
    age_seconds = (datetime.now(UTC) - event.received_at).total_seconds()
    if age_seconds < wait_seconds:
        raise Retry(after_seconds=wait_seconds - age_seconds, reason="another channel may still deliver the message")
    if history.arrival_of(event) is not None:
        return
    with _database() as database:
        row = (event.message_id, event.client_message_id, event.id)
        database.execute("INSERT OR IGNORE INTO credits VALUES (?, ?, ?)", row)


@handler(ReplyEvent, opt_outs=False, concurrency=32, attempts=5, timeout_seconds=30)
async def answer(event: ReplyEvent) -> None:
    """Answer each reply but STOP: 32 at a time, later if the other side is busy, not at all if it refuses."""
    if event.text is None or event.sender is None or await asyncio.to_thread(_is_answered, event, event.sender):
        return  # a sticker, no sender, or already answered
    await asyncio.to_thread(_post, "EVERYDAY_ANSWER_URL", event.id, {"to": event.sender, "text": THANKS})
    await asyncio.to_thread(_record_answer, event)


@handler(ReportEvent, final=True, batch=True, timeout_seconds=60)
def alert(events: Sequence[ReportEvent]) -> None:
    """Alert when too many messages fail, at most once an hour."""
    with _database() as database:
        rows = [(event.id, event.received_at.timestamp(), event.status in FAILURES) for event in events]
        database.executemany("INSERT OR IGNORE INTO ends VALUES (?, ?, ?)", rows)
        latest = max(events, key=lambda event: event.received_at)
        _raise_alert(database, latest.id, latest.received_at)
        due = database.execute("SELECT event_id, text FROM alerts WHERE NOT sent").fetchall()
    # The alert is stored above, so if it cannot be sent now, it is sent when these or the next events are handled.
    for event_id, text in due:
        _post("EVERYDAY_ALERT_URL", event_id, {"text": text})
        with _database() as database:
            database.execute("UPDATE alerts SET sent = 1 WHERE event_id = ?", (event_id,))


def _raise_alert(database: sqlite3.Connection, event_id: str, now: datetime) -> None:
    begin = (now - timedelta(seconds=WINDOW_SECONDS)).timestamp()
    ended, failed = database.execute(
        "SELECT count(*), coalesce(sum(failed), 0) FROM ends WHERE at > ? AND at <= ?", (begin, now.timestamp())
    ).fetchone()
    # Rows older than a day are not needed: the service remembers events no longer than that either.
    database.execute("DELETE FROM ends WHERE at < ?", ((now - timedelta(days=1)).timestamp(),))
    if failed < MIN_FAILURES or failed < MIN_SHARE * ended:
        return
    ((last,),) = database.execute("SELECT coalesce(max(at), 0) FROM alerts").fetchall()
    if now.timestamp() - last >= ALERT_INTERVAL_SECONDS:
        text = f"{failed} of {ended} messages failed in {WINDOW_SECONDS // 60} minutes"
        database.execute("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?, 0)", (event_id, now.timestamp(), text))


def _is_answered(event: ReplyEvent, sender: str) -> bool:
    since = event.received_at.timestamp() - ANSWER_INTERVAL_SECONDS
    with _database() as database:
        query = "SELECT 1 FROM answers WHERE event_id = ? OR (sender = ? AND at > ?)"
        return database.execute(query, (event.id, phone_numbers.comparable(sender), since)).fetchone() is not None


def _record_answer(event: ReplyEvent) -> None:
    with _database() as database:
        row = (event.id, phone_numbers.comparable(event.sender or ""), event.received_at.timestamp())
        database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row)


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    """Yield the database in a transaction, which other processes of these handlers wait for."""
    folder = Path(os.environ.get("EVERYDAY_FOLDER", "var/everyday"))
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "everyday.db", timeout=20, isolation_level="IMMEDIATE")) as database:
        database.executescript(_TABLES)
        with database:
            yield database


def _post(variable: str, key: str, body: dict[str, str]) -> None:
    """POST `body` to the URL in a variable. Raise Retry if the other side may accept it later, else Reject."""
    url = os.environ[variable]  # a setting, never a value from an event
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 # a setting
    try:
        with urllib.request.urlopen(request, timeout=9):  # noqa: S310 # a setting
            return
    except urllib.error.HTTPError as error:
        with error:
            status, wait = error.code, error.headers["Retry-After"] or "60"
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        raise Retry(after_seconds=float(wait) if wait.isdecimal() else 60, reason=f"{variable}: answered {status}")
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Reject(f"{variable}: answered {status}")
    raise Retry(reason=f"{variable}: answered {status}")
