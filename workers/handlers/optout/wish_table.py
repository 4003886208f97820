"""Reads and writes the table of wishes: a row for each number, with the latest."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from msgspec.structs import asdict
from sqlalchemy import Connection, func, select

from callbacks import Event
from workers.handlers.optout import forgotten, number_wishes
from workers.handlers.optout.number_wishes import NumberWish
from workers.handlers.sql import schema, texts
from workers.handlers.sql.database_url import DatabaseUrl, opened_engine
from workers.handlers.sql.tables import opt_outs

# In one statement: far within its time-out of 30 s.
_ROWS_PER_STATEMENT: Final = 5_000
_COLUMNS: Final = tuple(opt_outs.c[name] for name in NumberWish.__struct_fields__)


def write_events(connection: Connection, events: Iterable[Event], *, secret: str = "") -> None:
    """Write the wishes that replies express; `secret` as in `write`."""
    wishes = (number_wishes.from_reply(event) for event in events if event.kind == "reply")
    write(connection, filter(None, wishes), secret=secret)


def write(connection: Connection, wishes: Iterable[NumberWish], *, secret: str = "") -> int:
    """Write each wish that is later than what is known of its number; return how many numbers changed.

    `secret` is the key under which numbers were forgotten. Rows are written in the order of their keys, so that workers
    cannot deadlock.
    """
    latest: dict[str, NumberWish] = {}
    for wish in wishes:
        known = latest.get(wish.number_key)
        if known is None or wish.wish_rank > known.wish_rank:
            latest[wish.number_key] = wish
    rows = [{"number_key": key, **asdict(latest[key]), "wish_rank": latest[key].wish_rank} for key in sorted(latest)]
    keys = forgotten.read_keys(connection, secret)
    changed = 0
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        later = forgotten.without_outdated(connection, rows[start : start + _ROWS_PER_STATEMENT], keys)
        if later:
            changed += forgotten.upsert(connection, later)
            forgotten.delete_replaced(connection, later, keys)
    return changed


def find(connection: Connection, number: str, *, secret: str = "") -> NumberWish | None:
    """Return the latest wish of a number, however it is written; None if none is known. Raise forgotten.UnknownKey."""
    key = texts.number_key(number) or ""
    keys = forgotten.read_keys(connection, secret)
    names = [key, *(forgotten.digest(key, each) for each in keys)]
    query = select(opt_outs.c.wish_rank, *_COLUMNS).where(opt_outs.c.number_key.in_(names))
    row = connection.execute(query.order_by(opt_outs.c.wish_rank.desc()).limit(1)).one_or_none()
    if row is None or not row.opted_out:
        forgotten.check_keys(connection, keys, later_than="" if row is None else row.wish_rank)
    return None if row is None else _wish(row[1:])


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
    with opened_engine(address, says=" cannot be used") as engine:
        schema.prepare(engine)
        with engine.begin() as connection:
            yield connection


def _wish(row: Sequence[Any]) -> NumberWish:
    return NumberWish(**dict(zip(NumberWish.__struct_fields__, row, strict=True)))
