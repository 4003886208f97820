"""When each handler was offered all new events: what `callbacks backfill` must not give it a second time.

A handler is offered events from when every expand worker knows it, until the first that does not starts. During a
restart of several, one after the other, some know it and some do not: that time does not count as offered, so its
events can be given again, but none can be missed. In Redis, a field for each handler in `cb:subscriptions`:

    1795000000000-                              from this time on (ms since 1970, Redis's clock)
    1795000000000-1795100000000,1795200000000-  it was named, then not, then again
    ?                                           named, but older expand workers are still at work
    0-                                          it had events before this was noted: from nobody knows when
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis
from msgspec import Struct
from rq.utils import as_text, utcparse
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared import keys, queues
from workers.expand import filters_store
from workers.filters import Filters
from workers.runtime import scripts
from workers.runtime.maintenance import Maintenance

_CHECK_SECONDS: Final = 1.0


class Subscriptions(Struct, frozen=True):
    """The times (ms since 1970, the second is infinite while it lasts) in which a handler was offered all events.

    `is_pending`: older expand workers, which do not know it, are still at work. `is_unknown`: it had events before its
    times were noted.
    """

    times: tuple[tuple[float, float], ...]
    is_pending: bool = False

    @property
    def is_unknown(self) -> bool:
        """Whether it had events before its times were noted."""
        return any(begin == 0 for begin, _ in self.times)

    @property
    def since_ms(self) -> float | None:
        """From when on it is offered events now, in ms; None if it is not."""
        return self.times[-1][0] if self.times and math.isinf(self.times[-1][1]) else None


def find(connection: redis.Redis, handler: str) -> Subscriptions | None:
    """Give when a handler was offered events; None if no expand worker has known it. Raises redis.RedisError."""
    text = connection.hget(keys.SUBSCRIPTIONS, handler)
    return None if text is None else parse(as_text(text))


def parse(text: str) -> Subscriptions:
    """Read a field of `cb:subscriptions`."""
    times: list[tuple[float, float]] = []
    for part in text.split(","):
        begin, _, end = part.partition("-")
        if begin != "?":
            times.append((int(begin), int(end) if end else math.inf))
    return Subscriptions(tuple(times), is_pending=text.endswith("?"))


class SubscriptionMaintenance(Maintenance):
    """Maintenance of the queue "expand", which also notes what handlers its workers know, by entry with filters."""

    def __init__(
        self,
        queue_names: Sequence[str],
        *,
        filters: Mapping[str, Sequence[Filters]],
        connection: redis.Redis,
        **more: Any,
    ) -> None:
        super().__init__(queue_names, connection=connection, **more)
        self._filters = filters
        self._are_filters_saved = False
        self._writer = SubscriptionWriter(
            [one.name for found in filters.values() for one in found], connection=connection
        )

    def tick(self, workers: Any) -> None:
        """Do what is due. Raises redis.RedisError where Redis is unavailable."""
        super().tick(workers)
        if not self._are_filters_saved:
            self._are_filters_saved = self.attempt(
                "maintenance_filters", lambda: filters_store.save(self._connection, self._filters)
            )
        if self._writer.is_due:
            self.attempt("maintenance_subscriptions", self._writer.tick)


class SubscriptionWriter:
    """Notes that the expand workers of this supervisor, started with it, offer events to `handlers`."""

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
        """Whether `tick` has something to do: it has until no older worker is there any more."""
        return not self._is_written and time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Note what is to be noted. Raises redis.RedisError."""
        if not self.is_due:
            return
        now = time.monotonic()
        self._check_at = now + _CHECK_SECONDS
        is_alone = not any(birth < self._started for birth in worker_start_times(self._connection))
        elapsed_ms = int((now - self._began) * 1000)
        self._script(keys=[keys.SUBSCRIPTIONS, keys.COUNTS], args=[elapsed_ms, int(is_alone), *self._handlers])
        self._is_written = is_alone


def worker_start_times(connection: redis.Redis) -> list[float]:
    """Give when the expand workers that are alive were started, in unix time (s). Raises redis.RedisError."""
    with connection.pipeline(transaction=False) as pipe:
        for worker in connection.smembers(WORKERS_BY_QUEUE_KEY % queues.EXPAND):
            pipe.hget(worker, "birth")
        found = pipe.execute()
    return [utcparse(as_text(birth)).timestamp() for birth in found if birth]
