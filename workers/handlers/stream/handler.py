"""The handler `stream`: every event as one entry of a Redis stream, for any consumer that speaks Redis.

    CALLBACKS_STREAM_URL      the Redis: redis://, rediss://, unix:// or redis+sentinel://; REDIS_URL's by default
    CALLBACKS_STREAM_KEY      the stream, `callbacks` by default
    CALLBACKS_STREAM_MAXLEN   about how many entries it keeps, the latest: 100,000, some 80 MB; empty: all

An entry's fields are `id`, `kind` and `event`, the one JSON. An event that comes again has one entry, unless 100,000
others came in between. While that Redis is away, full, or may only be read, all events wait.
"""

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
# Where it is REDIS_URL's, the stream takes memory that the service itself may need.
_DEFAULT_MAXLEN: Final = "100000"
# How the service's own keys begin.
_RESERVED_PREFIXES: Final = ("cb:", "rq:")
# A Redis that restarts or fails over is back in seconds; one that is full, or was named wrongly, needs a person.
_PAUSE_SECONDS: Final = 3.0
_LONG_PAUSE_SECONDS: Final = 30.0
# Connecting (3 s) and one answer (30 s) give up before this.
_TIMEOUT_SECONDS: Final = 60


class EventStream:
    """Adds events to one stream, for as long as a worker process lives."""

    def __init__(self, url: str, key: str, *, max_entries: int | None) -> None:
        self._url = url
        self._key = key
        self._max_entries = max_entries
        self._client: Any = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables. Raises ValueError, which names the one that is wrong and quotes nothing secret."""
        url = environ.get("CALLBACKS_STREAM_URL", "").strip() or environ.get("REDIS_URL", "").strip()
        if url:
            try:
                connections.check_url(url)
            except ValueError as exc:
                raise ValueError(f"CALLBACKS_STREAM_URL: {exc}") from None
        key = environ.get("CALLBACKS_STREAM_KEY", "").strip() or _KEY
        if key.startswith(_RESERVED_PREFIXES):
            raise ValueError(f"CALLBACKS_STREAM_KEY: {key!r}: keys that begin with cb: or rq: are the service's own")
        max_entries = environ.get("CALLBACKS_STREAM_MAXLEN", _DEFAULT_MAXLEN).strip()
        if max_entries and (not re.fullmatch(r"[0-9]{1,15}", max_entries) or int(max_entries) < 1):
            raise ValueError(
                f"CALLBACKS_STREAM_MAXLEN: must be a whole number from 1, or empty for all, not {max_entries!r}"
            )
        return cls(url, key, max_entries=int(max_entries) if max_entries else None)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Close at the end what was opened."""
        try:
            yield
        finally:
            self.close()

    def add(self, events: Sequence[Event]) -> None:
        """Add the events. Raises Pause while Redis takes none."""
        if not self._url:
            raise Pause(_LONG_PAUSE_SECONDS, "neither CALLBACKS_STREAM_URL nor REDIS_URL is set")
        if self._client is None:
            self._client = connections.connect(self._url)
        try:
            RedisStream(self._client, self._key, max_entries=self._max_entries).add(events)
        except (redis.RedisError, OSError) as exc:
            self.close()
            # Not `from`: it is no error of the handler's, and the reason says all of it.
            raise self._pause(exc) from None
        except BaseException:
            self.close()  # our time is up: an answer may still come, and would be taken for the next one's
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()

    def _pause(self, error: Exception) -> Pause:
        where = connections.redact_url(self._url)
        words = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        if isinstance(error, redis.ResponseError) and words.startswith("WRONGTYPE"):
            words = words.removeprefix("WRONGTYPE ").strip()
            return Pause(_LONG_PAUSE_SECONDS, f"CALLBACKS_STREAM_KEY: {self._key!r} at {where}: {words}")
        return Pause(_PAUSE_SECONDS, f"{where}: {words}")


# Read once, before the first event. Not when the module is loaded: others than this handler's workers load it too.
@functools.cache
def _stream() -> EventStream:
    return EventStream.from_environ(os.environ)


@contextmanager
def lifespan() -> Iterator[None]:
    """Keep the connection of this process."""
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
