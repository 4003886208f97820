"""Reads the reports of a message, on whatever channels it was sent, for `callbacks.history`."""

from typing import Final

from sqlalchemy import ColumnElement, and_, or_, select

from callbacks import Event, ReplyEvent, ReportEvent
from workers.handlers.sql import stored_events, texts
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.history import open_connection
from workers.handlers.sql.tables import messages, statuses

# Far more than a message has, and few enough for a worker's memory.
MAX_REPORTS: Final = 1000


def named(
    *, message_id: str | None, client_message_id: str | None, api_job_id: str | None, recipient: str | None
) -> ColumnElement[bool]:
    """Return which messages have all of the given names. Raise TypeError if none is given."""
    given = {
        messages.c.message_id: texts.optional_key(message_id),
        messages.c.client_message_id: texts.optional_key(client_message_id),
        messages.c.api_job_id: texts.optional_key(api_job_id),
        messages.c.recipient_key: texts.number_key(recipient),
    }
    conditions = [column == value for column, value in given.items() if value is not None]
    if not conditions:
        raise TypeError("reports() needs a message_id, client_message_id, api_job_id or recipient")
    return and_(*conditions)


def same_message(event: Event) -> ColumnElement[bool]:
    """Return which messages are that of a report, or the one that a reply answers.

    It is the message with the same id. A channel that a plan falls back to may have an id of its own; then it is the
    one with the same job and number, unless the client gave the two different ids. The client's id and the number
    decide where a job is not known.
    """
    if isinstance(event, ReplyEvent):
        message_id, client_id, number = event.orig_message_id, None, event.sender
    else:
        message_id, client_id, number = event.message_id, event.client_message_id, event.recipient
    job, key = texts.optional_key(event.api_job_id), texts.number_key(number)
    client_key = texts.optional_key(client_id)
    alternatives: list[ColumnElement[bool]] = [messages.c.message_id == texts.optional_key(message_id)]
    if key is not None and job is not None:
        same_client = or_(messages.c.client_message_id.is_(None), messages.c.client_message_id == client_key)
        same_job = and_(messages.c.api_job_id == job, messages.c.recipient_key == key)
        alternatives.append(same_job if client_key is None else and_(same_job, same_client))
    if key is not None and client_key is not None:
        same_client = and_(messages.c.client_message_id == client_key, messages.c.recipient_key == key)
        alternatives.append(same_client if job is None else and_(same_client, messages.c.api_job_id.is_(None)))
    return or_(*alternatives)


def read_reports(address: DatabaseUrl, wanted: ColumnElement[bool]) -> list[ReportEvent]:
    """Return the reports of the messages that are `wanted`, in the order of the gateway's times; at most MAX_REPORTS.

    Raise DatabaseUnavailable.
    """
    at, received_at, event_id = statuses.c.occurred_at, statuses.c.received_at, statuses.c.event_id
    with open_connection(address) as connection:
        found = connection.scalars(select(messages.c.message_id).where(wanted).limit(MAX_REPORTS)).all()
        query = (
            select(statuses)
            .where(statuses.c.message_id.in_(found))
            .order_by(at.nulls_last(), received_at, event_id)
            .limit(MAX_REPORTS)
        )
        rows = [dict(row) for row in connection.execute(query).mappings()]
    events = map(stored_events.restore_event, rows)
    return [event for event in events if isinstance(event, ReportEvent)]
