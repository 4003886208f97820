"""What may go wrong with the database, and what it means for the events.

EventRejected       no repetition helps: the event is to be found in its batch, and set aside alone
DatabaseUnavailable    the database is away, locked, full, slow or not ours: all events again, later
└── SchemaMismatch  its tables are those of a newer release, or of somebody else
"""

from collections.abc import Callable

from sqlalchemy import exc


class EventRejected(Exception):
    """The database refuses what the event holds."""


class DatabaseUnavailable(Exception):
    """The database cannot be used now."""


class SchemaMismatch(DatabaseUnavailable):
    """The tables are not those that this release works with."""


def translate_error(
    error: BaseException, redact: Callable[[str], str], *, is_writing: bool = False
) -> EventRejected | DatabaseUnavailable:
    """Give our own error for one of SQLAlchemy, a driver or the system; `clean` takes passwords out of its words.

    Only what goes wrong while events are written (`is_writing`) can be the doing of one of them.
    """
    if isinstance(error, DatabaseUnavailable):
        return error
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    # The first line says what it is; further ones quote values.
    words = next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__
    if is_writing and _is_caused_by_event(error, cause):
        return EventRejected(redact(words))
    return DatabaseUnavailable(redact(words))


def _is_caused_by_event(error: BaseException, cause: BaseException) -> bool:
    if isinstance(error, exc.DataError | exc.IntegrityError | ValueError | OverflowError):
        return True
    # PostgreSQL's class 54 is "program limit exceeded": a row or a key too large.
    return str(getattr(cause, "sqlstate", None) or "").startswith("54")
