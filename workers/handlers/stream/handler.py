"""The handler `stream`: adds each event as one entry to a Redis stream, for any consumer of Redis streams.

    CALLBACKS_STREAM_URL      the Redis, a URL as in REDIS_URL; default: REDIS_URL
    CALLBACKS_STREAM_KEY      the stream, `callbacks` by default
    CALLBACKS_STREAM_MAXLEN   about how many of the latest entries are kept: 100,000 (about 80 MB); empty: all

An entry has the fields `id`, `kind` and `event` (the JSON of the event). A repeated event has one entry, unless 100,000
others came in between. While that Redis is unavailable, full or read-only, the queue pauses.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import redis

from callbacks import Event, Pause, ReplyEvent, ReportEvent, handler
from callbacks import redis as connections
from workers.handlers.stream.redis_stream import RedisStream

_KEY: Final = "callbacks"
# Bounded by default: in the Redis of REDIS_URL the stream uses memory that the service itself may need.
_DEFAULT_MAXLEN: Final = "100000"
# The service's own keys begin with these.
_RESERVED_PREFIXES: Final = ("cb:", "rq:")
# A restart or failover of Redis takes seconds. A wrong key or a missing URL needs an operator.
_PAUSE_SECONDS: Final = 3.0
_LONG_PAUSE_SECONDS: Final = 30.0
# Longer than the time-outs for connecting (3 s) and for one reply (30 s).
_TIMEOUT_SECONDS: Final = 60
# For one reply to `callbacks check`.
_CHECK_SECONDS: Final = 5.0
_NO_URL: Final = "neither CALLBACKS_STREAM_URL nor REDIS_URL is set"


class EventStream:
    """Adds events to one stream in one worker process."""

    def __init__(self, url: str, key: str, *, max_entries: int | None) -> None:
        self._url = url
        self._key = key
        self._max_entries = max_entries
        self._client: Any = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Return the stream that the variables describe. Raise ValueError, which names the wrong variable."""
        url = environ.get("CALLBACKS_STREAM_URL", "").strip() or environ.get("REDIS_URL", "").strip()
        if url:
            try:
                connections.check_url(url)
            except ValueError as exc:
                raise ValueError(f"CALLBACKS_STREAM_URL: {exc}") from None
        key = environ.get("CALLBACKS_STREAM_KEY", "").strip() or _KEY
        if key.startswith(_RESERVED_PREFIXES):
            raise ValueError(
                f"CALLBACKS_STREAM_KEY: {key!r} keys that begin with cb: or rq: are the service's own: use another"
            )
        max_entries = environ.get("CALLBACKS_STREAM_MAXLEN", _DEFAULT_MAXLEN).strip()
        if max_entries and (not re.fullmatch(r"[0-9]{1,15}", max_entries) or int(max_entries) < 1):
            raise ValueError(
                f"CALLBACKS_STREAM_MAXLEN: must be a whole number from 1, or empty for all, not {max_entries!r}"
            )
        return cls(url, key, max_entries=int(max_entries) if max_entries else None)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Close the connection at the end."""
        try:
            yield
        finally:
            self.close()

    def add(self, events: Sequence[Event]) -> None:
        """Add the events. Raise Pause while Redis accepts none."""
        if not self._url:
            raise Pause(_LONG_PAUSE_SECONDS, _NO_URL)
        if self._client is None:
            self._client = connections.connect(self._url)
        try:
            RedisStream(self._client, self._key, max_entries=self._max_entries).add(events)
        except (redis.RedisError, OSError) as exc:
            self.close()
            # `from None`: the reason says it all, and it is not a bug in the handler.
            raise self._pause(exc) from None
        except BaseException:
            self.close()  # after a time-out a late reply would be read as the reply to the next command
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()

    def find_problem(self) -> str:
        """Return why its Redis cannot be used, in the words of a pause; "" if it can."""
        if not self._url:
            return _NO_URL
        try:
            with contextlib.closing(connections.connect(self._url, timeout_seconds=_CHECK_SECONDS)) as client:
                client.ping()
        except (redis.RedisError, OSError) as exc:
            return f"{connections.redact_url(self._url)}: {self._describe(exc)}"
        return ""

    def _describe(self, error: Exception) -> str:
        return connections.describe_error(error, variable="CALLBACKS_STREAM_URL")

    def _pause(self, error: Exception) -> Pause:
        where, words = connections.redact_url(self._url), self._describe(error)
        if isinstance(error, redis.ResponseError) and words.startswith("WRONGTYPE"):
            words = words.removeprefix("WRONGTYPE ").strip()
            return Pause(_LONG_PAUSE_SECONDS, f"CALLBACKS_STREAM_KEY: {self._key!r} at {where}: {words}")
        return Pause(_PAUSE_SECONDS, f"{where}: {words}")


# Read at the first event, not on import: processes that do not run this handler import the module too.
@functools.cache
def _stream() -> EventStream:
    return EventStream.from_environ(os.environ)


@contextmanager
def lifespan() -> Iterator[None]:
    """Hold this process's connection while the worker runs."""
    with _stream().open():
        yield


@handler(
    ReportEvent,
    ReplyEvent,
    name="stream",
    batch=True,
    timeout_seconds=_TIMEOUT_SECONDS,
    lifespan=lifespan,
    settings=_stream,
)
def stream(events: Sequence[Event]) -> None:
    """Add an entry for each event of the batch."""
    _stream().add(events)
