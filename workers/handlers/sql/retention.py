"""Removes old rows in short transactions: a message with its reports some days after the last of them, and replies.

A message's row is made from its reports, so they are removed together. Only a message with more reports than a
transaction removes loses them one part after the other, and its row with the last part.

SQLite has one lock for all writers, and in PostgreSQL others may wait for a row: each transaction takes about 25 ms,
and as much time passes before the next. SQLite overwrites what is deleted (`secure_delete`).
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select

from workers.handlers.sql import schema
from workers.handlers.sql.database_url import DatabaseUrl, opened_engine
from workers.handlers.sql.tables import messages, replies, statuses

# A quarter of what a writer should have to wait at most, as a transaction may take several times as long as the last.
_GOAL_SECONDS: Final = 0.025
_MIN_ROWS: Final = 10
_FIRST_ROWS: Final = 100
_MAX_ROWS: Final = 2000
# A message has two or three reports.
_STATUSES_PER_MESSAGE: Final = 4


class BatchSize:
    """How many rows a transaction removes: as many as take about 25 ms."""

    def __init__(self) -> None:
        self.rows = _FIRST_ROWS

    def record(self, seconds: float) -> None:
        """Record how long a transaction with `rows` rows took."""
        if seconds > _GOAL_SECONDS:
            self.rows = max(_MIN_ROWS, int(self.rows * _GOAL_SECONDS / seconds))
        elif seconds < _GOAL_SECONDS / 2:
            self.rows = min(_MAX_ROWS, self.rows * 2)


def find_oldest(url: str) -> datetime | None:
    """Return the time from which the days of the oldest row are counted, None if there is no row, or no table yet.

    `url` is a DATABASE_URL. Raise ValueError if it is wrong, and DatabaseUnavailable.
    """
    address = DatabaseUrl.parse(url)
    if address.file is not None and not address.file.exists():
        return None
    with opened_engine(address, read_only=True) as engine, engine.connect() as connection:
        if schema.read_state(connection) != "current":
            return None
        times = (
            connection.scalar(select(func.min(messages.c.last_received_at))),
            connection.scalar(select(func.min(replies.c.received_at))),
        )
        return min(filter(None, times), default=None)


def remove_old(url: str, before: datetime, *, wait: Callable[[float], bool]) -> int:
    """Remove what is older than `before` from tables of this release; return how many messages and replies.

    `wait` waits for some seconds, and returns whether to stop. Raise ValueError and DatabaseUnavailable as above.
    """
    removed = 0
    with opened_engine(DatabaseUrl.parse(url)) as engine:
        for remove in (_remove_messages, _remove_replies):
            size, more = BatchSize(), True
            while more:
                with engine.begin() as connection:
                    began = time.monotonic()  # not before: the wait for the lock delays nobody else
                    number, more = remove(connection, before, size.rows)
                took_seconds = time.monotonic() - began
                size.record(took_seconds)
                removed += number
                if more and wait(took_seconds):
                    return removed
    return removed


def _remove_messages(connection: Connection, before: datetime, rows: int) -> tuple[int, bool]:
    """Remove about `rows` rows; return how many messages were removed, and whether more may be to do."""
    old = (
        select(messages.c.message_id)
        .where(messages.c.last_received_at < before)
        .order_by(messages.c.last_received_at)
        .limit(max(1, rows // _STATUSES_PER_MESSAGE))
        # A message that gets a report now is not old any more.
        .with_for_update(skip_locked=True)
    )
    message_ids = sorted(connection.execute(old).scalars())
    if not message_ids:
        return 0, False
    reports = connection.execute(
        select(statuses.c.message_id, statuses.c.event_id)
        .where(statuses.c.message_id.in_(message_ids))
        .order_by(statuses.c.message_id)
        .limit(rows + 1)
    ).all()
    complete = message_ids
    if len(reports) > rows:
        # Those of the last message may not be all.
        last = reports[-1].message_id
        complete = [message_id for message_id in message_ids if message_id < last]
        reports = [report for report in reports if report.message_id < last] or reports
    connection.execute(delete(statuses).where(statuses.c.event_id.in_([report.event_id for report in reports])))
    connection.execute(delete(messages).where(messages.c.message_id.in_(complete)))
    return len(complete), True


def _remove_replies(connection: Connection, before: datetime, rows: int) -> tuple[int, bool]:
    old = select(replies.c.event_id).where(replies.c.received_at < before).order_by(replies.c.received_at).limit(rows)
    removed = connection.execute(delete(replies).where(replies.c.event_id.in_(old))).rowcount
    return removed, removed == rows
