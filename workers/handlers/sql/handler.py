"""The handler `sql`: every event into the database that DATABASE_URL names, a batch in one transaction.

    DATABASE_URL    sqlite:///var/callbacks.db (the default), or postgresql://user:password@host:5432/name

The tables make and upgrade themselves at the first use. An event that comes twice has one effect. Where the database
itself is in trouble all events come again later; where it refuses what one event holds, that event alone is set aside.
"""

import functools
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from callbacks import Event, Reject, ReplyEvent, ReportEvent, Retry, handler
from workers.handlers.sql import schema
from workers.handlers.sql.database_url import DatabaseUrl, open_engine, read_url
from workers.handlers.sql.errors import DatabaseUnavailable, EventRejected, translate_error
from workers.handlers.sql.writer import write_events

log = logging.getLogger("callbacks.sql")

# A database that restarts is back within this, and then no event loses an attempt.
RETRY_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
# Connecting (5 s), waiting for a lock (10 s), one statement (30 s): each gives up by itself before this.
_TIMEOUT_SECONDS: Final = 60
# The usual back-off is at an hour from the seventh on, so these outlive an outage of half a day and more.
_ATTEMPTS: Final = 24


class EventStore:
    """Keeps events in one database, for as long as a worker process lives; a process forked off it opens its own."""

    def __init__(self, address: DatabaseUrl, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self.address = address
        self._retry_seconds = retry_seconds
        self._engine: Engine | None = None
        self._is_prepared = False
        self._pid = os.getpid()
        self._unavailable_since: float | None = None
        self._next_try = 0.0
        self._reason = ""

    def write(self, events: Sequence[Event]) -> None:
        """Write the events. Raises Retry while the database cannot take any; for what an event holds, as `_rejection`.

        The first trouble is waited out for a while; then it is said once, and until the database is back each call
        tries no more than once, and not at all right after one that failed.
        """
        began = time.monotonic()
        if began < self._next_try:
            raise Retry(reason=self._reason)
        retry_seconds = self._retry_seconds if self._unavailable_since is None else 0.0
        while True:
            tried, is_writing = time.monotonic(), False
            try:
                with self._prepared_engine().begin() as connection:
                    is_writing = True
                    write_events(connection, events)
            except (SQLAlchemyError, DatabaseUnavailable, OSError, ValueError, OverflowError) as exc:
                # Not `from`: what a driver says may hold the password or a person's text. Ours is cleaned.
                error = translate_error(exc, self.address.redact, is_writing=is_writing)
            else:
                self._record_available()
                return
            if isinstance(error, EventRejected):
                raise _rejection(error, events)
            now = time.monotonic()
            if now - began >= retry_seconds:
                self._record_unavailable(error, took_seconds=now - tried)
                raise Retry(reason=self._reason)
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._engine is not None:
            # A connection that was inherited is the parent's: it is let go of, not closed.
            self._engine.dispose(close=self._pid == os.getpid())
        self._engine, self._is_prepared, self._pid = None, False, os.getpid()

    def _prepared_engine(self) -> Engine:
        """Give the engine, with tables that are those of this release."""
        if self._pid != os.getpid():
            self.close()
        if self._engine is None:
            self._engine = open_engine(self.address)
        if not self._is_prepared:
            schema.prepare(self._engine)
            self._is_prepared = True
        return self._engine

    def _record_unavailable(self, error: DatabaseUnavailable, *, took_seconds: float) -> None:
        self.close()  # and with the next connection look at the tables anew
        now = time.monotonic()
        self._reason = f"{self.address.redacted_url}: {error}"
        self._next_try = now + max(1.0, took_seconds)
        if self._unavailable_since is None:
            self._unavailable_since = now
            log.warning("action=database_unavailable database=%s error=%s", self.address.redacted_url, error)

    def _record_available(self) -> None:
        if self._unavailable_since is not None:
            log.info("action=database_available seconds=%.0f", time.monotonic() - self._unavailable_since)
            self._unavailable_since = None


def _rejection(error: EventRejected, events: Sequence[Event]) -> Exception:
    """Give what to raise: of a batch, that it be taken apart; of one event, that it be set aside."""
    return Reject(f"the database refuses it: {error}") if len(events) == 1 else error


# Read once, before the first event. Not when the module is loaded: others than this handler's workers load it too.
@functools.cache
def _store() -> EventStore:
    return EventStore(DatabaseUrl.parse(read_url(os.environ)))


@contextmanager
def lifespan() -> Iterator[None]:
    """Close the connection when the worker process stops. It is opened at the first use, whenever there is trouble."""
    try:
        yield
    finally:
        _store().close()


@handler(
    ReportEvent,
    ReplyEvent,
    name="sql",
    batch=True,
    attempts=_ATTEMPTS,
    timeout_seconds=_TIMEOUT_SECONDS,
    lifespan=lifespan,
    settings=_store,
)
def sql(events: Sequence[Event]) -> None:
    """Write each event of the batch, all or none."""
    _store().write(events)
