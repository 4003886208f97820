"""One batch of events into the tables: each event's effect once, in the transaction that the caller opened.

Two workers may write the same messages at the same time. An event is whose insert succeeds (its id is the primary
key); a message's row is changed by an upsert that takes the greatest and the least, under the row's own lock.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, case, func
from sqlalchemy.dialects import postgresql, sqlite

from workers import Event, ReplyEvent, ReportEvent
from workers.handlers.sql import lattice, tables, texts
from workers.handlers.sql.lattice import Row

_MOST_INTEGER: Final = 2**63 - 1


def write(connection: Connection, events: Iterable[Event]) -> None:
    """Write `events`, of which any may have been written before, by us or by somebody else at this moment.

    Rows go in sorted by their keys, so that two workers wait for each other in the same order, never in a circle.
    """
    statuses: dict[str, Row] = {}
    replies: dict[str, Row] = {}
    for event in events:
        (statuses if event.kind == "report" else replies).setdefault(texts.key(event.id), row_of(event))
    if statuses:
        new = _insert_new(connection, tables.statuses, statuses)
        if new:
            _upsert(connection, lattice.messages(new))
    if replies:
        _insert_new(connection, tables.replies, replies)


def row_of(event: Event) -> Row:
    """Give the row that is to stand for an event in its own table, `statuses` or `replies`."""
    return _status(event) if event.kind == "report" else _reply(event)


def _status(event: ReportEvent) -> Row:
    return {
        "event_id": texts.key(event.id),
        "message_id": texts.key(event.message_id),
        "status": texts.key(event.status),
        "is_final": event.is_final,
        "channel": texts.optional(event.channel),
        "occurred_at": event.occurred_at,
        "received_at": event.received_at,
        "error_code": _integer(event.error_code),
        "api_job_id": texts.optional(event.api_job_id),
        "client_job_id": texts.optional(event.client_job_id),
        "client_message_id": texts.optional(event.client_message_id),
        "recipient": texts.optional(event.recipient),
        "sender": texts.optional(event.sender),
        "source": texts.key(event.source),
        "raw": texts.json_text(event.raw),
    }


def _reply(event: ReplyEvent) -> Row:
    return {
        "event_id": texts.key(event.id),
        "reply_message_id": texts.key(event.reply_message_id),
        "req_uuid": texts.optional(event.req_uuid),
        "orig_message_id": texts.optional(event.orig_message_id),
        "api_job_id": texts.optional(event.api_job_id),
        "client_job_id": texts.optional(event.client_job_id),
        "channel": texts.optional(event.channel),
        "occurred_at": event.occurred_at,
        "received_at": event.received_at,
        "sender": texts.optional(event.sender),
        "recipient": texts.optional(event.recipient),
        "text": None if event.text is None else texts.readable(event.text),
        "source": texts.key(event.source),
        "raw": texts.json_text(event.raw),
    }


def _integer(value: int | None) -> int | None:
    """Give what a column of 64 bits holds; a code beyond them stands in `raw` alone."""
    return value if value is not None and -_MOST_INTEGER <= value <= _MOST_INTEGER else None


def _insert_new(connection: Connection, table: Any, rows: dict[str, Row]) -> list[Row]:
    """Insert the rows whose event is not there, and give those."""
    statement = _insert(connection, table).on_conflict_do_nothing(index_elements=["event_id"])
    inserted = connection.execute(
        statement.returning(table.c.event_id), [rows[event_id] for event_id in sorted(rows)]
    ).scalars()
    return [rows[event_id] for event_id in inserted]


def _upsert(connection: Connection, rows: list[Row]) -> None:
    """Do in the database what `lattice.join` does."""
    statement = _insert(connection, tables.messages)
    new, old = statement.excluded, tables.messages.c
    wins = new.standing > old.standing
    changes = {column: case((wins, new[column]), else_=old[column]) for column in lattice.CURRENT}
    for column in lattice.GREATEST:
        changes[column] = case((new[column] > old[column], new[column]), else_=func.coalesce(old[column], new[column]))
    for column in lattice.LEAST:
        changes[column] = case((new[column] < old[column], new[column]), else_=func.coalesce(old[column], new[column]))
    upsert = statement.on_conflict_do_update(index_elements=["message_id"], set_=changes)
    # What is returned is of no use, but makes SQLAlchemy send a thousand rows in a statement instead of one.
    connection.execute(upsert.returning(old.message_id), rows).all()


def _insert(connection: Connection, table: Any) -> Any:
    # Two functions of the same form, each for its own dialect.
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
