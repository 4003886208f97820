"""The handler `unreachable`: which numbers the last three messages did not reach, in SQLite.

UNREACHABLE_FILE   var/unreachable.db where it is missing
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from callbacks import Pause, ReportEvent, handler

# Read when the module is loaded, so that a wrong value stops the start and not the thousandth event.
FILE: Final = Path(os.environ.get("UNREACHABLE_FILE") or "var/unreachable.db")
if FILE.is_dir():
    raise ValueError(f"UNREACHABLE_FILE: {str(FILE)!r} is a folder, not a file")

# Reports are only ever added, and the list follows from them: in whatever order they come, and however often.
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY, recipient TEXT, at REAL, reached INTEGER);
    CREATE INDEX IF NOT EXISTS reports_of ON reports (recipient, at DESC);
    CREATE VIEW IF NOT EXISTS unreachable AS
        SELECT recipient FROM
            (SELECT recipient, reached, row_number() OVER (PARTITION BY recipient ORDER BY at DESC) AS age FROM reports)
        WHERE age <= 3 GROUP BY recipient HAVING count(*) = 3 AND sum(reached) = 0;
"""
_open: list[sqlite3.Connection] = []


@contextmanager
def database() -> Iterator[None]:
    """Keep one connection for as long as the worker process lives."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(FILE, timeout=10)) as connection:
        connection.executescript(f"PRAGMA journal_mode=WAL; {_TABLES}")
        _open.append(connection)
        try:
            yield
        finally:
            _open.clear()


def connected() -> sqlite3.Connection:
    """Give that connection."""
    return _open[0]


@handler(ReportEvent, final=True, batch=True, lifespan=database)
def unreachable(events: Sequence[ReportEvent]) -> None:
    """Note for each message that ended whether it reached its recipient."""
    rows = [
        (event.id, event.recipient, (event.occurred_at or event.received_at).timestamp(), _reached(event))
        for event in events
        if event.recipient is not None
    ]
    try:
        with connected() as connection:
            connection.executemany("INSERT OR IGNORE INTO reports VALUES (?, ?, ?, ?)", rows)
    except sqlite3.OperationalError as exc:
        # The disk is full, or somebody locks the file: no event can be kept now, so none loses an attempt.
        raise Pause(after_seconds=30, reason=f"{FILE.name}: {exc}") from exc


def _reached(event: ReportEvent) -> bool:
    return event.status in ("DELIVRD", "SEEN")
