"""Which messages are meant: conditions that several queries share."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_

from workers.handlers.sql import texts
from workers.handlers.sql.tables import messages


def is_overdue(first_before: datetime) -> ColumnElement[bool]:
    """Return which messages had their first report before then and have no final status.

    The index `callbacks_messages_not_final` answers it: `is_final` is compared as there, without a parameter.
    """
    return and_(messages.c.is_final.is_(False), messages.c.first_received_at < first_before)


def is_of_job(job: str) -> ColumnElement[bool]:
    """Return which messages belong to the job with this id, the gateway's or the client's."""
    key = texts.storable_key(job)
    return or_(messages.c.api_job_id == key, messages.c.client_job_id == key)
