"""The errors of the database, and what they mean for the events.

EventRejected        a retry cannot help: the event that causes it becomes a dead letter
DatabaseUnavailable  the database is down, locked, full, slow or not permitted: all events are retried
├── NoMessages       its tables are not there yet: no worker of the handler has written to it
└── SchemaMismatch   its tables are those of another release
"""

from collections.abc import Callable

from sqlalchemy import exc


class EventRejected(Exception):
    """The database rejects the values of an event."""


class DatabaseUnavailable(Exception):
    """The database cannot be used now."""


class NoMessages(DatabaseUnavailable):
    """The database has no messages yet."""


class SchemaMismatch(DatabaseUnavailable):
    """The tables are not those that this release works with."""


def translate_error(
    error: BaseException, redact: Callable[[str], str], *, is_writing: bool = False
) -> EventRejected | DatabaseUnavailable:
    """Return our error for one of SQLAlchemy, a driver or the system; `redact` removes passwords from its text.

    Only an error while events are written (`is_writing`) can be caused by one of them.
    """
    if isinstance(error, DatabaseUnavailable):
        return error
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    # The first line says what is wrong; further lines quote values.
    words = next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__
    if is_writing and _is_caused_by_event(error, cause):
        return EventRejected(redact(words))
    return DatabaseUnavailable(redact(words))


def _is_caused_by_event(error: BaseException, cause: BaseException) -> bool:
    if isinstance(error, exc.DataError | exc.IntegrityError | ValueError | OverflowError):
        return True
    # PostgreSQL's class 54 is "program limit exceeded": a row or a key too large.
    return str(getattr(cause, "sqlstate", None) or "").startswith("54")
