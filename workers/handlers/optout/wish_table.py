"""Reads and writes the table of wishes: a row for each number, with the latest."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from msgspec.structs import asdict
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from callbacks import Event
from workers.handlers.optout import number_wishes
from workers.handlers.optout.number_wishes import NumberWish
from workers.handlers.sql import schema, texts
from workers.handlers.sql.database_url import DatabaseUrl, open_engine
from workers.handlers.sql.errors import DatabaseUnavailable, translate_error
from workers.handlers.sql.tables import opt_outs
from workers.handlers.sql.writer import insert_statement

# In one statement: far within its time-out of 30 s.
_ROWS_PER_STATEMENT: Final = 5_000
_COLUMNS: Final = tuple(opt_outs.c[name] for name in NumberWish.__struct_fields__)


def write_events(connection: Connection, events: Iterable[Event]) -> None:
    """Write the wishes that replies express."""
    write(connection, filter(None, (number_wishes.from_reply(event) for event in events if event.kind == "reply")))


def write(connection: Connection, wishes: Iterable[NumberWish]) -> int:
    """Write each wish that is later than what is known of its number; return how many numbers changed.

    Rows are written in the order of their keys, so that workers cannot deadlock.
    """
    latest: dict[str, NumberWish] = {}
    for wish in wishes:
        known = latest.get(wish.number_key)
        if known is None or wish.wish_rank > known.wish_rank:
            latest[wish.number_key] = wish
    rows = [{"number_key": key, **asdict(latest[key]), "wish_rank": latest[key].wish_rank} for key in sorted(latest)]
    return sum(
        _upsert(connection, rows[start : start + _ROWS_PER_STATEMENT])
        for start in range(0, len(rows), _ROWS_PER_STATEMENT)
    )


def find(connection: Connection, number: str) -> NumberWish | None:
    """Return the latest wish of a number, however it is written; None if none is known."""
    query = select(*_COLUMNS).where(opt_outs.c.number_key == texts.number_key(number))
    row = connection.execute(query).one_or_none()
    return None if row is None else _wish(row)


def iterate(
    connection: Connection, *, since: datetime | None = None, opted_out: bool | None = None, limit: int | None = None
) -> Iterator[NumberWish]:
    """Yield wishes, the latest first, those without a time last: only those since then, or of one kind."""
    query = select(*_COLUMNS).order_by(opt_outs.c.changed_at.desc().nulls_last(), opt_outs.c.number_key)
    if since is not None:
        query = query.where(opt_outs.c.changed_at >= since)
    if opted_out is not None:
        query = query.where(opt_outs.c.opted_out.is_(opted_out))
    return map(_wish, connection.execution_options(yield_per=1000).execute(query.limit(limit)))


def count_opted_out(connection: Connection) -> int:
    """Return how many numbers opted out."""
    query = select(func.count()).select_from(opt_outs).where(opt_outs.c.opted_out.is_(True))
    return connection.scalar(query) or 0


@contextmanager
def open_for_writing(address: DatabaseUrl) -> Iterator[Connection]:
    """Yield a connection in a transaction, with tables that are made if they are missing. Raise DatabaseUnavailable."""
    try:
        engine = open_engine(address)
        try:
            schema.prepare(engine)
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()
    except (SQLAlchemyError, OSError) as exc:
        error = translate_error(exc, address.redact)
    else:
        return
    # Raised without a cause: a driver's message may contain the password.
    raise DatabaseUnavailable(f"{address.redacted_url} cannot be used: {error}")


def _upsert(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    statement, values = insert_statement(connection, opt_outs, rows)
    new = statement.excluded
    changes = {column.name: new[column.name] for column in opt_outs.columns if not column.primary_key}
    statement = statement.on_conflict_do_update(
        index_elements=["number_key"], set_=changes, where=new.wish_rank > opt_outs.c.wish_rank
    ).returning(opt_outs.c.number_key)
    return len(connection.execute(statement, values).all())


def _wish(row: Any) -> NumberWish:
    return NumberWish(**row._mapping)  # noqa: SLF001 # SQLAlchemy's public name for it
