"""The events that the handler `sql` has stored, as it received them, in the order in which they were received.

An event is parsed again from its record (`raw`). Then its fields are compared with the columns: where a column differs
from what would be written for the parsed event, the column's value is used. The columns alone are not enough, because
long texts are cut in them (`texts`). The ids of jobs are not part of the record, so they are restored from their
columns: complete up to 400 characters, NUL as ␀.
"""

import heapq
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, func, or_, select

from callbacks import Event, ReplyEvent, ReportEvent, restore
from workers.handlers.sql import history, texts, writer
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.tables import replies, statuses

# A page of long texts takes some tens of MiB. No transaction is open between two pages, however slow the reader is.
_PAGE_ROWS: Final = 500
# Columns whose name differs from the event's field.
_FIELDS: Final = {"event_id": "id"}
# Columns that no event has: they are made from others.
_DERIVED: Final = frozenset(("sender_key",))
_TABLES: Final[dict[str, Any]] = {"report": statuses, "reply": replies}


def count_events(address: DatabaseUrl, *, kinds: Collection[str], since: datetime, until: datetime) -> int:
    """Return how many events of these kinds came from `since` to before `until`. Raise DatabaseUnavailable."""
    with history.open_connection(address) as connection:
        counts = (
            connection.scalar(select(func.count()).select_from(table).where(*_within(table, since, until)))
            for kind, table in _TABLES.items()
            if kind in kinds
        )
        return sum(count or 0 for count in counts)


def read_events(address: DatabaseUrl, *, kinds: Collection[str], since: datetime, until: datetime) -> Iterator[Event]:
    """Yield these events in the order in which they were received; pages are read when needed.

    Raise DatabaseUnavailable, also between two events.
    """
    tables = [table for kind, table in _TABLES.items() if kind in kinds]
    rows = heapq.merge(*(_rows(address, table, since, until) for table in tables), key=lambda row: row["received_at"])
    return map(restore_event, rows)


def read_newest(
    connection: Connection,
    *,
    kinds: Collection[str],
    since: datetime | None = None,
    message_id: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[Event]:
    """Return the newest of these events, the one received last first: those of, or replies to, a message; `since` then.

    `after` is the time and the id of the event after which the list goes on.
    """
    rows: list[dict[str, Any]] = []
    for kind in kinds:
        table = _TABLES[kind]
        at, event_id = table.c.received_at, table.c.event_id
        query = select(table).order_by(at.desc(), event_id.desc()).limit(limit)
        if since is not None:
            query = query.where(at >= since)
        if message_id is not None:
            of_message = table.c.message_id if kind == "report" else table.c.orig_message_id
            query = query.where(of_message == texts.storable_key(message_id))
        if after is not None:
            query = query.where(or_(at < after[0], and_(at == after[0], event_id < after[1])))
        rows += map(dict, connection.execute(query).mappings())
    rows.sort(key=lambda row: (row["received_at"], row["event_id"]), reverse=True)
    return [restore_event(row) for row in rows[:limit]]


def restore_event(row: dict[str, Any]) -> Event:
    """Return the event of a row of `statuses` or `replies`."""
    raw = msgspec.json.decode(row["raw"])
    metadata = {"source": row["source"], "received_at": row["received_at"]}
    row = {column: value for column, value in row.items() if column not in _DERIVED}
    known = {_FIELDS.get(column, column): value for column, value in row.items()} | {"raw": raw}
    if "reply_message_id" in row:
        reply = restore.reply(raw, **metadata)
        return ReplyEvent(**known) if reply is None else _with_column_values(reply, row, known)
    jobs = {"api_job_id": row["api_job_id"], "client_job_id": row["client_job_id"]}
    report = restore.report(raw, **jobs, **metadata)
    return ReportEvent(**known) if report is None else _with_column_values(report, row, known)


def _with_column_values(event: Event, row: dict[str, Any], known: dict[str, Any]) -> Event:
    """Return `event` with the values of those columns that differ from what would be written for it."""
    written = writer.event_row(event)
    differing = (_FIELDS.get(column, column) for column in row if column != "raw" and written[column] != row[column])
    return msgspec.structs.replace(event, **{field: known[field] for field in differing})


def _rows(address: DatabaseUrl, table: Any, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    at, event_id = table.c.received_at, table.c.event_id
    beyond: tuple[Any, ...] = ()
    while True:
        query = select(table).where(*_within(table, since, until), *beyond).order_by(at, event_id).limit(_PAGE_ROWS)
        with history.open_connection(address) as connection:
            page = [dict(row) for row in connection.execute(query).mappings()]
        yield from page
        if len(page) < _PAGE_ROWS:
            return
        last = page[-1]
        beyond = (or_(at > last["received_at"], and_(at == last["received_at"], event_id > last["event_id"])),)


def _within(table: Any, since: datetime, until: datetime) -> tuple[Any, ...]:
    return (table.c.received_at >= since, table.c.received_at < until)
