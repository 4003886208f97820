"""Writes events to one database: creates the tables at the first use, and retries while the database is unavailable."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from callbacks import Event, Reject, Retry
from callbacks.log import get_logger
from workers.handlers.sql import schema
from workers.handlers.sql.database_url import DatabaseUrl, open_engine
from workers.handlers.sql.errors import DatabaseUnavailable, EventRejected, translate_error

log = get_logger("callbacks.sql")

# A restart of the database takes less than this, so no event loses an attempt.
RETRY_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
# What handlers that write with it need: longer than the time-outs for connecting (5 s), a lock (10 s) and a statement
# (30 s),
TIMEOUT_SECONDS: Final = 60
# and as the backoff reaches one hour at the seventh attempt, 24 attempts outlast an outage of more than half a day.
ATTEMPTS: Final = 24

# Writes events in a transaction; any of them may have been written before, or be written by another process now.
WriteEvents: TypeAlias = Callable[[Connection, Sequence[Event]], None]


class EventStore:
    """Writes events to one database. A forked process opens a connection of its own."""

    def __init__(
        self, address: DatabaseUrl, write_events: WriteEvents, *, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.address = address
        self._write_events = write_events
        self._retry_seconds = retry_seconds
        self._engine: Engine | None = None
        self._is_prepared = False
        self._pid = os.getpid()
        self._unavailable_since: float | None = None
        self._next_try = 0.0
        self._reason = ""

    def write(self, events: Sequence[Event]) -> None:
        """Write the events. Raise Retry while the database is unavailable; see `_rejection` for rejected values.

        At the first error the write is retried for `retry_seconds`. Then a warning is logged once, and until the
        database is available again each call tries once, or not at all shortly after a failed one.
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
                    self._write_events(connection, events)
            except (SQLAlchemyError, DatabaseUnavailable, OSError, ValueError, OverflowError) as exc:
                # Raised without a cause: a driver's message may contain the password or personal data.
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
        """Close the connection; the next call opens a new one."""
        if self._engine is not None:
            # A connection inherited by fork belongs to the parent: drop it without closing it.
            self._engine.dispose(close=self._pid == os.getpid())
        self._engine, self._is_prepared, self._pid = None, False, os.getpid()

    def _prepared_engine(self) -> Engine:
        """Return the engine, after the tables were created or upgraded."""
        if self._pid != os.getpid():
            self.close()
        if self._engine is None:
            self._engine = open_engine(self.address)
        if not self._is_prepared:
            schema.prepare(self._engine)
            self._is_prepared = True
        return self._engine

    def _record_unavailable(self, error: DatabaseUnavailable, *, took_seconds: float) -> None:
        self.close()  # the next connection checks the tables again
        now = time.monotonic()
        self._reason = f"{self.address.redacted_url}: {error}"
        self._next_try = now + max(1.0, took_seconds)
        if self._unavailable_since is None:
            self._unavailable_since = now
            log.warning("database_unavailable", database=self.address.redacted_url, error=error)

    def _record_available(self) -> None:
        if self._unavailable_since is not None:
            log.info("database_available", seconds=round(time.monotonic() - self._unavailable_since))
            self._unavailable_since = None


def closing(store: Callable[[], EventStore]) -> Callable[[], AbstractContextManager[None]]:
    """Return a handler's lifespan that closes its store's connection. That is opened at the first use."""

    @contextmanager
    def lifespan() -> Iterator[None]:
        try:
            yield
        finally:
            store().close()

    return lifespan


def _rejection(error: EventRejected, events: Sequence[Event]) -> Exception:
    """Return what to raise: for a batch the error, so that it is split; for one event a Reject."""
    return Reject(f"the database rejects it: {error}") if len(events) == 1 else error
