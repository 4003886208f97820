"""When each handler was subscribed: from when to when it was offered all new events.

`callbacks backfill` must not give a handler these events a second time. A subscription begins when every expand worker
knows the handler, and ends when the first one starts that does not. While several are restarted one after the other,
some know it and some do not: that time does not count, so its events can be given again, and none can be missed. In
Redis, a field for each handler in `cb:subscriptions`:

    1795000000000-                              from this time on (ms since 1970, Redis's clock)
    1795000000000-1795100000000,1795200000000-  it was named, then not, then again
    ?                                           named, but older expand workers are still running
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Final

import redis
from msgspec import Struct
from rq.utils import as_text, utcparse
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared import keys, queues
from workers.expand import known_handlers
from workers.filters import Filters
from workers.runtime import scripts
from workers.runtime.maintenance import MaintenanceTask
from workers.runtime.oom_fallback import OomFallbackRedis

_CHECK_SECONDS: Final = 1.0


class Subscriptions(Struct, frozen=True):
    """The times (ms since 1970; the second is infinite while it lasts) in which a handler was offered all events.

    `is_pending`: older expand workers, which do not know the handler, are still running.
    """

    times: tuple[tuple[float, float], ...]
    is_pending: bool = False

    @property
    def since_ms(self) -> float | None:
        """Start of the current subscription, in ms; None if there is none."""
        return self.times[-1][0] if self.times and math.isinf(self.times[-1][1]) else None


def find(connection: redis.Redis, handler: str) -> Subscriptions | None:
    """Return a handler's subscriptions; None if no expand worker has known it. Raise redis.RedisError."""
    text = connection.hget(keys.SUBSCRIPTIONS, handler)
    return None if text is None else parse(as_text(text))


def parse(text: str) -> Subscriptions:
    """Return the subscriptions that a field of `cb:subscriptions` holds."""
    times: list[tuple[float, float]] = []
    for part in text.split(","):
        begin, _, end = part.partition("-")
        if begin != "?":
            times.append((int(begin), int(end) if end else math.inf))
    return Subscriptions(tuple(times), is_pending=text.endswith("?"))


def maintenance_tasks(
    filters: Mapping[str, Sequence[Filters]], *, connection: redis.Redis
) -> dict[str, MaintenanceTask]:
    """Return what a supervisor of expand workers does once: save the filters by entry, and write the subscriptions."""
    names = [one.name for found in filters.values() for one in found]
    return {
        "maintenance_filters": FilterWriter(filters, connection=connection),
        "maintenance_subscriptions": SubscriptionWriter(names, connection=connection),
    }


class FilterWriter:
    """Saves the filters of the handlers that the expand workers of this supervisor know, once."""

    def __init__(self, filters: Mapping[str, Sequence[Filters]], *, connection: redis.Redis) -> None:
        self._filters = filters
        self._connection = OomFallbackRedis(connection)
        self._is_written = False

    @property
    def is_due(self) -> bool:
        """Whether the filters are not saved yet."""
        return not self._is_written

    def tick(self) -> None:
        """Save the filters. Raise redis.RedisError."""
        known_handlers.save_filters(self._connection, self._filters)
        self._is_written = True


class SubscriptionWriter:
    """Records that the expand workers of this supervisor, started with it, offer events to `handlers`."""

    def __init__(self, handlers: Sequence[str], *, connection: redis.Redis) -> None:
        self._handlers = handlers
        self._connection = connection
        self._script = connection.register_script(scripts.load("allow_oom", "clock", "expand/subscriptions"))
        self._started = time.time()
        self._began = time.monotonic()
        self._check_at = 0.0
        self._is_written = False

    @property
    def is_due(self) -> bool:
        """Whether `tick` has something to do: until no older worker is running any more."""
        return not self._is_written and time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Write what is due. Raise redis.RedisError."""
        if not self.is_due:
            return
        now = time.monotonic()
        self._check_at = now + _CHECK_SECONDS
        is_oldest = not any(started < self._started for started in worker_start_times(self._connection))
        elapsed_ms = int((now - self._began) * 1000)
        self._script(keys=[keys.SUBSCRIPTIONS], args=[elapsed_ms, int(is_oldest), *self._handlers])
        self._is_written = is_oldest


def worker_start_times(connection: redis.Redis) -> list[float]:
    """Return when the running expand workers were started, in unix time (s). Raise redis.RedisError."""
    with connection.pipeline(transaction=False) as pipe:
        for worker in connection.smembers(WORKERS_BY_QUEUE_KEY % queues.EXPAND):
            pipe.hget(worker, "birth")
        found = pipe.execute()
    return [utcparse(as_text(birth)).timestamp() for birth in found if birth]
