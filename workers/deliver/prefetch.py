"""How much a deliver worker takes at a time: along with the job that it runs, and into a run that goes on.

A slow handler takes only what it gets done in about a second; the rest is left to its other processes. Where it works
on several events at once, more is taken while one of them keeps it waiting: a run would end with its slowest call.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import redis

from shared import queues
from workers.declaration import Handler
from workers.deliver.call.watchdog import GRACE_SECONDS
from workers.deliver.run import Run
from workers.runtime.settlement import ClaimedJob
from workers.runtime.steps import Steps

log = logging.getLogger("callbacks.deliver")

# Most for one run, whatever it takes while it goes on.
MAX_ITEMS: Final = 5_000
# As Python objects they take some 26 times as much (an ordinary report 20 times).
MAX_BYTES: Final = 4 << 20
_PREFETCH_SECONDS: Final = 1.0
_INITIAL_ROUNDS: Final = 8
# Whoever tries one event after a pause is alone with it for the handler's time-out and this: what the watchdog allows
# for the call's end, and the time to take the job and to settle. A worker that dies of it is not waited for any longer.
_PROBE_SECONDS: Final = GRACE_SECONDS + 5.0


class Prefetcher:
    """What the runs of one process take of one handler's queue."""

    def __init__(self, steps: Steps, handler: Handler) -> None:
        self._steps = steps
        self._handler = handler
        self._queue = queues.delivery_queue(handler.name)
        self._seconds_per_event: float | None = None

    def claim(self, job_id: str, arguments: Sequence[Any]) -> list[ClaimedJob]:
        """Take the running job and those behind it. Raises what `Steps.claim` does."""
        return self._steps.claim(
            queue=self._queue,
            job_id=job_id,
            own_arguments=arguments,
            max_items=self._prefetch_count(),
            max_bytes=MAX_BYTES,
            handler=self._handler.name,
            lease_seconds=self._handler.timeout_seconds + _PROBE_SECONDS,
        )

    def claim_more(self, run: Run, *, free_slots: int) -> list[ClaimedJob]:
        """Take what waits while `run` goes on and has so many hands free; mostly nothing waits.

        For each hand an event, or as many as are done in about a second: others would wait here for a slow call.
        """
        in_time = int(run.recorded / (time.monotonic() - run.started_at) * _PREFETCH_SECONDS)
        max_items = min(max(free_slots, in_time), MAX_ITEMS - len(run.events))
        max_bytes = MAX_BYTES - run.coalesced_bytes
        if run.needs_another_run or max_items <= 0 or max_bytes <= 0:
            return []
        try:
            found = self._steps.claim_more(
                queue=self._queue,
                job_id=run.job_id,
                worker=run.worker,
                max_items=max_items,
                max_bytes=max_bytes,
                handler=self._handler.name,
            )
        except redis.RedisError as exc:
            log.warning("action=redis_unavailable error=%s", exc)
            run.needs_another_run = True
            return []
        # Where Redis falls back to an earlier state, jobs of the run wait once more. What is in its hands is not called
        # again, and what it settled before comes again with the running job's next run.
        had = set(run.job_ids) if found else set()
        joining = [claimed for claimed in found if claimed.job_id not in had]
        run.needs_another_run = len(joining) < len(found)
        return joining

    def observe(self, number: int, seconds: float) -> None:
        """Note how long a run took for so many events."""
        known = self._seconds_per_event
        self._seconds_per_event = seconds / number if known is None else (known + seconds / number) / 2

    def _prefetch_count(self) -> int:
        if self._seconds_per_event is None:
            # Its first job shows how fast it is. Who works on many at once would be idle with less than a few rounds.
            return 1 if self._handler.concurrency == 1 else self._handler.concurrency * _INITIAL_ROUNDS
        return max(1, min(MAX_ITEMS, int(_PREFETCH_SECONDS / max(self._seconds_per_event, 1e-6))))
