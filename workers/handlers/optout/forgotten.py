"""What stays of an opt-out whose number was forgotten: the wish, under a keyed digest instead of the number.

The key is CALLBACKS_FORGET_SECRET or, without it, a random one in the database. A digest names its key, so that a
process without that key says that it does not know, and not that nobody opted out.
"""

import functools
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, select

from workers.handlers.sql.database_url import read_value
from workers.handlers.sql.tables import digest_keys, opt_outs
from workers.handlers.sql.writer import insert_statement

# Rows with such a key have no number. The second is the first text after all that begin with the first.
_PREFIX: Final = "forgotten:"
_AFTER_PREFIX: Final = "forgotten;"
_KEY_BYTES: Final = 64
_KEY_NAME_BYTES: Final = 4
_DIGEST_BYTES: Final = 16
# After every event's id: the reply itself, which may be repeated, does not bring its number back.
_AFTER_IDS: Final = "~"
_NAME_OF_OWN_KEY: Final = "opt_outs"


class UnknownKey(ValueError):
    """Some numbers were forgotten under another key: set CALLBACKS_FORGET_SECRET as it was for `callbacks forget`."""


def read_secret(environ: Mapping[str, str]) -> str:
    """Return CALLBACKS_FORGET_SECRET, or the content of its file."""
    return read_value(environ, "CALLBACKS_FORGET_SECRET").strip()


def read_keys(connection: Connection, secret: str) -> list[str]:
    """Return the known keys of digests, the one for new digests first."""
    own = connection.scalar(select(digest_keys.c.key).where(digest_keys.c.name == _NAME_OF_OWN_KEY))
    return [key for key in (secret, own) if key]


def digest(number_key: str, key: str) -> str:
    """Return what a row has instead of `number_key`."""
    return f"{_name(key)}{keyed_digest(number_key, key, size_bytes=_DIGEST_BYTES)}"


def keyed_digest(text: str, key: str, *, size_bytes: int) -> str:
    """Return a digest in hexadecimal, from which nobody without the key can find the text by trying."""
    return hashlib.blake2b(text.encode(), key=_key_bytes(key), digest_size=size_bytes).hexdigest()


def check_keys(connection: Connection, keys: Sequence[str], *, later_than: str) -> None:
    """Raise UnknownKey if a wish later than this rank stands under a key that is not among these."""
    conditions: list[ColumnElement[bool]] = [
        opt_outs.c.number_key >= _PREFIX,
        opt_outs.c.number_key < _AFTER_PREFIX,
        opt_outs.c.number.is_(None),
        opt_outs.c.wish_rank > later_than,
        *(~opt_outs.c.number_key.startswith(_name(key)) for key in keys),
    ]
    if connection.scalar(select(1).where(*conditions).limit(1)):
        raise UnknownKey(UnknownKey.__doc__)


def forget(connection: Connection, rows: Iterable[Mapping[str, Any]], numbers: Mapping[str, str], secret: str) -> None:
    """Replace the rows of people, which the caller has locked, by what stays of them.

    `numbers` has the number of each row's key. Who opted in again needs no row.
    """
    key = secret or _own_key(connection)
    kept: dict[str, dict[str, Any]] = {}
    for row in rows:
        stays = {**row, "number_key": digest(numbers[row["number_key"]], key), "wish_rank": _rank(row["wish_rank"])}
        known = kept.get(stays["number_key"])
        if row["opted_out"] and (known is None or stays["wish_rank"] > known["wish_rank"]):
            kept[stays["number_key"]] = {**stays, "number": None, "keyword": None, "event_id": None}
    # Deleted first and then written, as `wish_table.write` does, so that neither waits for the other in a circle.
    connection.execute(delete(opt_outs).where(opt_outs.c.number_key.in_(numbers)))
    if kept:
        upsert(connection, [kept[name] for name in sorted(kept)])


def upsert(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    """Write rows that are later than what is known of their keys; return how many."""
    statement, values = insert_statement(connection, opt_outs, rows)
    new = statement.excluded
    changes = {column.name: new[column.name] for column in opt_outs.columns if not column.primary_key}
    statement = statement.on_conflict_do_update(
        index_elements=["number_key"], set_=changes, where=new.wish_rank > opt_outs.c.wish_rank
    ).returning(opt_outs.c.number_key)
    return len(connection.execute(statement, values).all())


def without_outdated(
    connection: Connection, rows: Sequence[dict[str, Any]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows that are later than what stays of their numbers."""
    if not keys:
        return list(rows)
    names = {digest(row["number_key"], key): row["number_key"] for row in rows for key in keys}
    query = select(opt_outs.c.number_key, opt_outs.c.wish_rank).where(opt_outs.c.number_key.in_(names))
    ranks: dict[str, str] = {}
    for name, rank in connection.execute(query):
        ranks[names[name]] = max(rank, ranks.get(names[name], ""))
    return [row for row in rows if row["wish_rank"] > ranks.get(row["number_key"], "")]


def delete_replaced(connection: Connection, rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    """Delete what stays of numbers that have said something later."""
    names = sorted(digest(row["number_key"], key) for row in rows for key in keys)
    if names:
        connection.execute(delete(opt_outs).where(opt_outs.c.number_key.in_(names)))


def _own_key(connection: Connection) -> str:
    new = {"name": _NAME_OF_OWN_KEY, "key": secrets.token_hex()}
    statement, values = insert_statement(connection, digest_keys, [new])
    connection.execute(statement.on_conflict_do_nothing(), values)
    return str(connection.scalar(select(digest_keys.c.key).where(digest_keys.c.name == _NAME_OF_OWN_KEY)))


def _rank(rank: str) -> str:
    time, opted_out, _ = rank.split(":", 2)
    return f"{time}:{opted_out}:{_AFTER_IDS}"


def _name(key: str) -> str:
    return f"{_PREFIX}{keyed_digest('name', key, size_bytes=_KEY_NAME_BYTES)}:"


@functools.lru_cache(maxsize=8)  # of a few keys, for each row
def _key_bytes(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=_KEY_BYTES).digest()
