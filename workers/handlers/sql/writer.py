"""Writes a batch of events to the tables, each with one effect, in the caller's transaction.

Several workers may write the same messages at the same time. Only the worker whose insert succeeds applies an event
(its id is the primary key); a message's row is changed by an upsert with maxima and minima, under the row's lock.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, Text, bindparam, case, cast, column, func, select
from sqlalchemy.dialects import postgresql, sqlite

from callbacks import Event, ReplyEvent, ReportEvent
from workers.handlers.sql import current_status, tables, texts
from workers.handlers.sql.current_status import TableRow

_MAX_INTEGER: Final = 2**63 - 1


def write_events(connection: Connection, events: Iterable[Event]) -> None:
    """Write `events`; any of them may have been written before, or be written by another process now.

    Rows are written in the order of their keys, so that workers cannot deadlock.
    """
    statuses: dict[str, TableRow] = {}
    replies: dict[str, TableRow] = {}
    for event in events:
        (statuses if event.kind == "report" else replies).setdefault(texts.storable_key(event.id), event_row(event))
    if statuses:
        new = _insert_new(connection, tables.statuses, statuses)
        if new:
            _upsert(connection, current_status.message_rows(new))
    if replies:
        _insert_new(connection, tables.replies, replies)


def event_row(event: Event) -> TableRow:
    """Return the row of an event in its table, `statuses` or `replies`."""
    return _status_row(event) if event.kind == "report" else _reply_row(event)


def _status_row(event: ReportEvent) -> TableRow:
    return {
        "event_id": texts.storable_key(event.id),
        "message_id": texts.storable_key(event.message_id),
        "status": texts.storable_key(event.status),
        "is_final": event.is_final,
        "channel": texts.optional_key(event.channel),
        "occurred_at": event.occurred_at,
        "received_at": event.received_at,
        "error_code": _integer(event.error_code),
        "api_job_id": texts.optional_key(event.api_job_id),
        "client_job_id": texts.optional_key(event.client_job_id),
        "client_message_id": texts.optional_key(event.client_message_id),
        "recipient": texts.optional_key(event.recipient),
        "sender": texts.optional_key(event.sender),
        "source": texts.storable_key(event.source),
        "raw": texts.json_text(event.raw),
    }


def _reply_row(event: ReplyEvent) -> TableRow:
    return {
        "event_id": texts.storable_key(event.id),
        "reply_message_id": texts.storable_key(event.reply_message_id or ""),
        "req_uuid": texts.optional_key(event.req_uuid),
        "orig_message_id": texts.optional_key(event.orig_message_id),
        "api_job_id": texts.optional_key(event.api_job_id),
        "client_job_id": texts.optional_key(event.client_job_id),
        "channel": texts.optional_key(event.channel),
        "occurred_at": event.occurred_at,
        "received_at": event.received_at,
        "sender": texts.optional_key(event.sender),
        "sender_key": texts.number_key(event.sender),
        "recipient": texts.optional_key(event.recipient),
        "text": None if event.text is None else texts.storable(event.text),
        "source": texts.storable_key(event.source),
        "raw": texts.json_text(event.raw),
    }


def _integer(value: int | None) -> int | None:
    """Return `value` if it fits into 64 bits, else None; `raw` has it in any case."""
    return value if value is not None and -_MAX_INTEGER <= value <= _MAX_INTEGER else None


def _insert_new(connection: Connection, table: Table, rows: dict[str, TableRow]) -> list[TableRow]:
    """Insert the rows of events that are not in the table, and return those."""
    statement, values = insert_statement(connection, table, [rows[event_id] for event_id in sorted(rows)])
    statement = statement.on_conflict_do_nothing(index_elements=["event_id"]).returning(table.c.event_id)
    return [rows[event_id] for event_id in connection.execute(statement, values).scalars()]


def _upsert(connection: Connection, rows: list[TableRow]) -> None:
    """Do in the database what `current_status.merge` does."""
    statement, values = insert_statement(connection, tables.messages, rows)
    new, old = statement.excluded, tables.messages.c
    wins = new.status_rank > old.status_rank
    changes = {name: case((wins, new[name]), else_=old[name]) for name in current_status.CURRENT_COLUMNS}
    for name in current_status.MAX_COLUMNS:
        changes[name] = case((new[name] > old[name], new[name]), else_=func.coalesce(old[name], new[name]))
    for name in current_status.MIN_COLUMNS:
        changes[name] = case((new[name] < old[name], new[name]), else_=func.coalesce(old[name], new[name]))
    statement = statement.on_conflict_do_update(index_elements=["message_id"], set_=changes)
    if connection.dialect.name == "sqlite":
        # The result is not used, but RETURNING makes SQLAlchemy send a thousand rows in a statement instead of one.
        statement = statement.returning(old.message_id)
    connection.execute(statement, values).close()


def insert_statement(connection: Connection, table: Table, rows: Sequence[TableRow]) -> tuple[Any, Any]:
    """Return an INSERT of the rows in their order, to be completed, and its parameters.

    PostgreSQL gets all rows as one parameter in JSON. With one parameter for each value, a thousand rows have 15,000,
    and handling their names took three quarters of the handler's time (P13).
    """
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table), rows
    names = [each.name for each in table.columns]
    given = (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON))
        .table_valued(*(column(each.name, each.type) for each in table.columns), name="given")
        .render_derived(with_types=True)
    )
    # PostgreSQL keeps the order without this too, but does not guarantee it.
    chosen = select(*(given.c[name] for name in names)).order_by(*(given.c[key.name] for key in table.primary_key))
    return postgresql.insert(table).from_select(names, chosen), {"rows": msgspec.json.encode(rows).decode()}
