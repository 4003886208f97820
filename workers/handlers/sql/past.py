"""The events that the handler `sql` has kept, as they were when it got them, in the order in which they were received.

An event is read anew from its record (`raw`). What a column holds as it would be written for that event is the event's
own; where the two differ, the column is believed: the record also carries what stood beside `data` in its callback.
Columns alone cannot give an event back, as texts in them are cut and cleaned (`texts`); so the ids of jobs, which stand
beside the record, come back as their columns have them: whole up to 400 characters, NUL as its picture.
"""

import heapq
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import and_, func, or_, select

from callbacks import Event, ReplyEvent, ReportEvent, reread
from workers.handlers.sql import history, writing
from workers.handlers.sql.connecting import Address
from workers.handlers.sql.tables import replies, statuses

# A page of long texts is some tens of MiB. Between two pages no transaction is open, however long the reader takes.
_ROWS_A_PAGE: Final = 500
# A column that is called otherwise than the event's field.
_FIELDS: Final = {"event_id": "id"}
_TABLES: Final[dict[str, Any]] = {"report": statuses, "reply": replies}


def number(address: Address, *, kinds: Collection[str], since: datetime, until: datetime) -> int:
    """Count the events of these kinds that were received from `since` to before `until`. Raises DatabaseTrouble."""
    with history.connected(address) as connection:
        counts = (
            connection.scalar(select(func.count()).select_from(table).where(*_within(table, since, until)))
            for kind, table in _TABLES.items()
            if kind in kinds
        )
        return sum(count or 0 for count in counts)


def events(address: Address, *, kinds: Collection[str], since: datetime, until: datetime) -> Iterator[Event]:
    """Give these events, in the order in which they were received, read as they are asked for.

    Raises DatabaseTrouble, also in the midst of it.
    """
    tables = [table for kind, table in _TABLES.items() if kind in kinds]
    rows = heapq.merge(*(_rows(address, table, since, until) for table in tables), key=lambda row: row["received_at"])
    return map(event_of, rows)


def event_of(row: dict[str, Any]) -> Event:
    """Give the event that a row of `statuses` or `replies` stands for."""
    raw = msgspec.json.decode(row["raw"])
    told = {"source": row["source"], "received_at": row["received_at"]}
    known = {_FIELDS.get(column, column): value for column, value in row.items()} | {"raw": raw}
    if "reply_message_id" in row:
        reply = reread.reply(raw, **told)
        return ReplyEvent(**known) if reply is None else _believed(reply, row, known)
    jobs = {"api_job_id": row["api_job_id"], "client_job_id": row["client_job_id"]}
    report = reread.report(raw, **jobs, **told)
    return ReportEvent(**known) if report is None else _believed(report, row, known)


def _believed(event: Event, row: dict[str, Any], known: dict[str, Any]) -> Event:
    """Give `event` with the values of those columns that would not be what they are if it were the one written."""
    written = writing.row_of(event)
    differing = (_FIELDS.get(column, column) for column in row if column != "raw" and written[column] != row[column])
    return msgspec.structs.replace(event, **{field: known[field] for field in differing})


def _rows(address: Address, table: Any, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    at, event_id = table.c.received_at, table.c.event_id
    beyond: tuple[Any, ...] = ()
    while True:
        query = select(table).where(*_within(table, since, until), *beyond).order_by(at, event_id).limit(_ROWS_A_PAGE)
        with history.connected(address) as connection:
            page = [dict(row) for row in connection.execute(query).mappings()]
        yield from page
        if len(page) < _ROWS_A_PAGE:
            return
        last = page[-1]
        beyond = (or_(at > last["received_at"], and_(at == last["received_at"], event_id > last["event_id"])),)


def _within(table: Any, since: datetime, until: datetime) -> tuple[Any, ...]:
    return (table.c.received_at >= since, table.c.received_at < until)
