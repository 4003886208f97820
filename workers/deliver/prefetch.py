"""How much a deliver worker claims: for each round of a run, and for a round whose calls are in flight.

A slow handler claims only what it finishes in about a second; the rest is left to its other processes. A handler that
works on several events at once claims more while one of them is slow: otherwise they would wait for the slowest call.
"""

from collections.abc import Sequence
from typing import Any, Final

import redis

from shared import queues
from shared.structured_log import get_logger
from workers.declaration import Handler
from workers.deliver.call.timeout import GRACE_SECONDS
from workers.deliver.round import Round
from workers.runtime.claim import ClaimedJob, ClaimStep
from workers.runtime.redis_availability import redis_availability

log = get_logger("callbacks.deliver")

# Limits of one round, with all that joins it later.
MAX_ITEMS: Final = 5_000
# As Python objects the events take some 26 times as much (an ordinary report 20 times).
MAX_BYTES: Final = 4 << 20
_PREFETCH_SECONDS: Final = 1.0
_INITIAL_EVENTS_PER_SLOT: Final = 8
# The run that tries one event after a pause has the handler to itself for the handler's time-out and this: what the
# watchdog allows for the end of the call, and the time to claim the job and to settle. After that its worker is dead,
# and another run may try.
_PROBE_SECONDS: Final = GRACE_SECONDS + 5.0


class Prefetcher:
    """Claims jobs of one handler's queue for the runs of one process."""

    def __init__(self, connection: redis.Redis, handler: Handler) -> None:
        self._claim_step = ClaimStep(
            connection,
            queues.delivery_queue(handler.name),
            handler=handler.name,
            probe_seconds=handler.timeout_seconds + _PROBE_SECONDS,
        )
        self._handler = handler
        self._seconds_per_event: float | None = None

    def claim(self, job_id: str, worker: str, arguments: Sequence[Any]) -> list[ClaimedJob]:
        """Claim the running job and those behind it. Raise what `ClaimStep.claim` does."""
        return self._claim_step.claim(
            job_id=job_id,
            worker=worker,
            own_arguments=arguments,
            max_items=self._prefetch_count(),
            max_bytes=MAX_BYTES,
        )

    def claim_next(self, job_id: str, worker: str) -> list[ClaimedJob]:
        """Claim the jobs of a run's next round, as all of the last one is settled. Raise redis.RedisError."""
        return self._claim_step.claim_more(
            job_id=job_id, worker=worker, max_items=self._prefetch_count(), max_bytes=MAX_BYTES
        )

    def claim_more(self, round_: Round, *, free_slots: int) -> list[ClaimedJob]:
        """Claim waiting jobs for a round whose handler could take `free_slots` more events; usually nothing waits.

        As many events as there are free slots, or as the round finishes in about a second: more would wait here for a
        slow call.
        """
        max_items = min(
            max(free_slots, int(round_.events_per_second * _PREFETCH_SECONDS)), MAX_ITEMS - len(round_.events)
        )
        max_bytes = MAX_BYTES - round_.coalesced_bytes
        if round_.needs_another_run or max_items <= 0 or max_bytes <= 0:
            return []
        try:
            found = self._claim_step.claim_more(
                job_id=round_.job_id, worker=round_.worker, max_items=max_items, max_bytes=max_bytes
            )
        except redis.RedisError as exc:
            redis_availability.failed(exc)
            round_.needs_another_run = True
            return []
        # When Redis falls back to an earlier state, jobs of the round wait in the queue again. What is in flight is not
        # called a second time, and what was settled before comes back with the running job's next run.
        known = set(round_.job_ids) if found else set()
        joining = [claimed for claimed in found if claimed.job_id not in known]
        round_.needs_another_run = len(joining) < len(found)
        return joining

    def observe(self, round_: Round) -> None:
        """Take the pace of a round that has ended into account. It must have recorded outcomes."""
        seconds, known = round_.seconds / round_.recorded, self._seconds_per_event
        self._seconds_per_event = seconds if known is None else (known + seconds) / 2

    def _prefetch_count(self) -> int:
        if self._seconds_per_event is None:
            # The first job shows how fast the handler is. With concurrency, too few events would leave it idle.
            concurrency = self._handler.concurrency
            return 1 if concurrency == 1 else concurrency * _INITIAL_EVENTS_PER_SLOT
        return max(1, min(MAX_ITEMS, int(_PREFETCH_SECONDS / max(self._seconds_per_event, 1e-6))))
