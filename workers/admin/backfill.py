"""Deliver events of the past to a handler: enqueued for it alone, counted as queued there, each once.

A set in Redis (`keys.backfilled`) holds the ids of the events enqueued so; it changes in one step with the queue and
the counters. So a backfill that is interrupted, or run again, enqueues no event twice within keys.BACKFILLED_SECONDS.
Events that the handler was offered when they arrived are left out: they are known by their marks, which say to which
handlers an event was offered, and, when those have ended, by the handler's subscription times.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import redis
from msgspec import Struct

from shared import events, keys, queues, sealed_data
from shared.events import Event
from workers.expand.subscriptions import Subscriptions
from workers.runtime import scripts

# Redis does nothing else while a script runs: about 10 ms. The limit in bytes is that of `expansion`.
EVENTS_PER_STEP: Final = 1000
_BYTES_PER_STEP: Final = 4 << 20
_EVENTS_PER_JOB: Final = 100
_NEVER_ENDS: Final = 2**53


class BackfillStep(Struct, frozen=True):
    """What one step did: events enqueued, enqueued by an earlier backfill, and offered when they arrived."""

    enqueued: int = 0
    already_enqueued: int = 0
    already_fanned_out: int = 0


class Backfill:
    """Enqueues events of the past for one handler, without those in `offers`; None: without exception."""

    def __init__(self, connection: redis.Redis, handler: str, *, offers: Subscriptions | None) -> None:
        self._handler = handler
        self._queue = queues.delivery_queue(handler)
        self._offers = offers
        self._script = connection.register_script(
            scripts.load("types", "arguments", "clock", "enqueue", "marks", "admin/backfill")
        )

    def enqueue(
        self, past: Iterable[Event], *, before_each: Callable[[], None] = lambda: None
    ) -> Iterator[BackfillStep]:
        """Enqueue events in steps, and call `before_each` before each step. Works while it is iterated.

        Raise redis.RedisError.
        """
        batch: list[tuple[Event, bytes]] = []
        batch_bytes = 0
        for event in past:
            encoded = events.encode(event)
            if batch and (len(batch) == EVENTS_PER_STEP or batch_bytes + len(encoded) > _BYTES_PER_STEP):
                before_each()
                yield self._step(batch)
                batch, batch_bytes = [], 0
            batch.append((event, encoded))
            batch_bytes += len(encoded)
        if batch:
            before_each()
            yield self._step(batch)

    def _step(self, batch: list[tuple[Event, bytes]]) -> BackfillStep:
        times = self._offers.times if self._offers is not None else ()
        fields = queues.script_job_fields(self._queue)
        arguments: list[Any] = [
            *(keys.backfilled(self._handler), keys.BACKFILLED_SECONDS),
            *(self._handler, keys.dead_letter(self._handler, "")),
            keys.searched_marks(event.id for event, _ in batch),
            int(self._offers is not None),
            *(2 * len(times), *(_NEVER_ENDS if math.isinf(time) else int(time) for pair in times for time in pair)),
            *(*queues.delivery_ends(self._handler), 2 * len(fields), *_flatten(fields)),
            *(f" events for {self._handler}, of the past", keys.job(""), _EVENTS_PER_JOB, queues.new_step_id()),
            len(batch),
        ]
        for event, encoded in batch:
            received_ms = events.to_unix_ms(event.received_at)
            counter = keys.handler_counter(self._handler, event.kind, "queued")
            arguments += (counter, event.id, received_ms, sealed_data.seal(encoded, sealed_data.EVENTS))
        reply = self._script(keys=[keys.COUNTS, keys.RQ_QUEUES, keys.rq_queue(self._queue), keys.SEEN], args=arguments)
        return BackfillStep(*map(int, reply))


def _flatten(fields: Mapping[str, Any]) -> list[Any]:
    return [word for field in fields.items() for word in field]
