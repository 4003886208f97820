"""The stores of the built-in handlers `sql`, `jsonl` and `stream`: their oldest item, and the removal of old ones.

A store's libraries are imported when it is used, as those of `sql` are an extra and take 40 MB.
"""

import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import redis
from msgspec import Struct

from shared import connections, retention
from shared.retention import HandlerStore
from shared.settings import Settings
from workers.handlers.jsonl import retention as jsonl_retention
from workers.handlers.stream import retention as stream_retention

# Waits for some seconds, and returns whether to stop.
Wait: TypeAlias = Callable[[float], bool]


class RetentionFailed(Exception):
    """The store cannot be used now. The message holds no secret."""


class AgingStore(Struct, frozen=True, kw_only=True):
    """A store that keeps what it holds for some days. Both functions may raise RetentionFailed.

    `find_oldest` returns the time from which the days of the oldest item are counted, None if there is none.
    `remove_old` removes what is older than a time, and returns how many items.
    """

    name: str
    days: int
    find_oldest: Callable[[], datetime | None]
    remove_old: Callable[[datetime, Wait], int]


def used_by(entries: Collection[str]) -> list[HandlerStore]:
    """Return the stores of the built-in handlers that these entries of CALLBACKS_HANDLERS name."""
    return [store for store in _OPEN if {store, f"workers.handlers.{store}.handler"} & set(entries)]


def open_stores(loaded: Settings, entries: Collection[str]) -> list[AgingStore]:
    """Return the stores of these handlers, but those that keep everything without end."""
    days = retention.days_of(loaded)
    return [_OPEN[store](loaded, kept) for store in used_by(entries) if (kept := days[store]) is not None]


def _open_sql(loaded: Settings, days: int) -> AgingStore:
    def find_oldest() -> datetime | None:
        from workers.handlers.sql import retention as sql_retention  # noqa: PLC0415 # an extra

        with _sql_errors():
            return sql_retention.find_oldest(loaded.database_url)

    def remove_old(before: datetime, wait: Wait) -> int:
        from workers.handlers.sql import retention as sql_retention  # noqa: PLC0415 # an extra

        with _sql_errors():
            return sql_retention.remove_old(loaded.database_url, before, wait=wait)

    return AgingStore(name="sql", days=days, find_oldest=find_oldest, remove_old=remove_old)


@contextmanager
def _sql_errors() -> Iterator[None]:
    from workers.handlers.sql.errors import DatabaseUnavailable  # noqa: PLC0415 # an extra

    try:
        yield
    except (DatabaseUnavailable, ValueError) as exc:  # ValueError: DATABASE_URL is wrong
        raise RetentionFailed(str(exc)) from None


def _open_jsonl(loaded: Settings, days: int) -> AgingStore:
    directory = Path(loaded.jsonl_dir)

    def find_oldest() -> datetime | None:
        with _jsonl_errors(directory):
            return jsonl_retention.find_oldest_end(directory)

    def remove_old(before: datetime, wait: Wait) -> int:
        removed = 0
        with _jsonl_errors(directory):
            while number := jsonl_retention.remove_old(directory, before):
                removed += number
                if wait(_FILES_PAUSE_SECONDS):
                    break
        return removed

    # Each machine has its own folder.
    return AgingStore(name=f"jsonl@{socket.gethostname()}", days=days, find_oldest=find_oldest, remove_old=remove_old)


_FILES_PAUSE_SECONDS: Final = 0.02


@contextmanager
def _jsonl_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RetentionFailed(f"{directory}: {exc.strerror or exc}") from None


def _open_stream(loaded: Settings, days: int) -> AgingStore:
    url = loaded.stream_url or loaded.redis_url

    def find_oldest() -> datetime | None:
        with _stream_errors(url):
            return stream_retention.find_oldest(url, loaded.stream_key)

    def remove_old(before: datetime, wait: Wait) -> int:
        with _stream_errors(url):
            return stream_retention.remove_old(url, loaded.stream_key, before, wait=wait)

    return AgingStore(name="stream", days=days, find_oldest=find_oldest, remove_old=remove_old)


@contextmanager
def _stream_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError, ValueError) as exc:  # ValueError: CALLBACKS_STREAM_URL is wrong
        words = connections.describe_error(exc, variable="CALLBACKS_STREAM_URL")
        raise RetentionFailed(f"{connections.redact_url(url)}: {words}") from None


_OPEN: Final[dict[HandlerStore, Callable[[Settings, int], AgingStore]]] = {
    "sql": _open_sql,
    "jsonl": _open_jsonl,
    "stream": _open_stream,
}
