"""The handler `sql`: writes each event to the database in DATABASE_URL, a batch in one transaction.

    DATABASE_URL    sqlite:///var/callbacks.db (the default), or postgresql://user:password@host:5432/name

The tables are created and upgraded at the first use. A repeated event has one effect. While the database is unavailable
all events are retried; if it rejects the values of one event, only that event becomes a dead letter.
"""

import functools
import os
from collections.abc import Sequence

from callbacks import Event, ReplyEvent, ReportEvent, handler
from workers.handlers.sql.database_url import DatabaseUrl, read_url
from workers.handlers.sql.event_store import ATTEMPTS, TIMEOUT_SECONDS, EventStore, closing
from workers.handlers.sql.writer import write_events


# Read at the first event, not on import: processes that do not run this handler import the module too.
@functools.cache
def _store() -> EventStore:
    return EventStore(DatabaseUrl.parse(read_url(os.environ)), write_events)


@handler(
    ReportEvent,
    ReplyEvent,
    name="sql",
    batch=True,
    attempts=ATTEMPTS,
    timeout_seconds=TIMEOUT_SECONDS,
    lifespan=closing(_store),
    settings=_store,
)
def sql(events: Sequence[Event]) -> None:
    """Write the events of the batch, all or none."""
    _store().write(events)
