"""The handler `unreachable`: lists, in SQLite, the numbers that the last three messages did not reach.

UNREACHABLE_FILE   the file of the database; default: var/unreachable.db
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from callbacks import Pause, ReportEvent, handler, phone_numbers

# Read on import, so that a wrong value stops the start and not the first event.
FILE: Final = Path(os.environ.get("UNREACHABLE_FILE") or "var/unreachable.db")
if FILE.is_dir():
    raise ValueError(f"UNREACHABLE_FILE: {str(FILE)!r} is a folder, not a file")

# Rows are only added, and the list is a view of them: so the order and the repetition of reports do not matter. A
# message that fails on Viber may still arrive by SMS: it was reached if any of its reports says so.
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY, message TEXT, recipient TEXT, at REAL, reached INTEGER);
    CREATE INDEX IF NOT EXISTS reports_of ON reports (recipient, at DESC);
    CREATE VIEW IF NOT EXISTS unreachable AS
        WITH messages AS
            (SELECT recipient, max(reached) AS reached, max(at) AS at FROM reports GROUP BY recipient, message)
        SELECT recipient FROM
            (SELECT *, row_number() OVER (PARTITION BY recipient ORDER BY at DESC) AS age FROM messages)
        WHERE age <= 3 GROUP BY recipient HAVING count(*) = 3 AND sum(reached) = 0;
"""
_open: list[sqlite3.Connection] = []


@contextmanager
def database() -> Iterator[None]:
    """Keep one connection open while the worker process runs."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(FILE, timeout=10)) as opened:
        opened.executescript(f"PRAGMA journal_mode=WAL; PRAGMA secure_delete=ON; {_TABLES}")
        _open.append(opened)
        try:
            yield
        finally:
            _open.clear()


def connection() -> sqlite3.Connection:
    """Return the open connection."""
    return _open[0]


def erase(number: str) -> int:
    """Erase what the file holds of a phone number (its digits), and return how many reports that were."""
    with connection() as transaction:
        erased = transaction.execute("DELETE FROM reports WHERE recipient = ?", (number,)).rowcount
    # The log of SQLite would hold the erased rows until it is used again.
    connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return erased


@handler(ReportEvent, final=True, batch=True, lifespan=database, forget=erase)
def unreachable(events: Sequence[ReportEvent]) -> None:
    """Record for each final report whether the message reached its recipient."""
    rows = [
        (event.id, event.message_id, phone_numbers.comparable(event.recipient), _at(event), _reached(event))
        for event in events
        if event.recipient is not None
    ]
    try:
        with connection() as transaction:
            transaction.executemany("INSERT OR IGNORE INTO reports VALUES (?, ?, ?, ?, ?)", rows)
    except sqlite3.OperationalError as exc:
        # The disk is full or the file is locked, for all events alike: wait, so that no event loses an attempt.
        raise Pause(after_seconds=30, reason=f"{FILE.name}: {exc}") from exc


def _at(event: ReportEvent) -> float:
    return (event.occurred_at or event.received_at).timestamp()


def _reached(event: ReportEvent) -> bool:
    return event.status in ("DELIVRD", "SEEN")
