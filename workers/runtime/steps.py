"""The atomic steps in Redis, as Python calls them: take jobs along, fan events out, settle deliveries.

Each is one Lua script; this module knows the order of their arguments and nothing of why. What is done cannot
be undone, so a settlement waits for Redis as long as it is away, and one whose answer got lost is told from a new one.
"""

import logging
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import redis

from shared import keys, live, memory, progress, queues
from shared.memory import Memory
from workers.runtime import completion_journal, pause, scripts
from workers.runtime.headroom import Headroom
from workers.runtime.redis_retry import never_stopping, retry_while_unavailable
from workers.runtime.settlement import (
    NO_CHANGE,
    Argument,
    ClaimedJob,
    DeliveryPlan,
    FanOutEvent,
    FanOutGroup,
    FanOutResult,
    NewFailure,
    PauseChange,
    ScheduledRetry,
    Settlement,
    SettleResult,
    append_list,
    failure_arguments,
    flatten,
)

log = logging.getLogger("callbacks.worker")

_PAUSE_KEPT_MS: Final = keys.PAUSE_KEPT_SECONDS * 1000


class StaleRun(Exception):
    """Another worker has gone on with this job meanwhile; what this run did since its last settlement is void."""


class HandlerPaused(Exception):
    """The handler is paused: nothing was taken, and the job has to go back to its queue."""


class Steps:
    """The scripts, loaded over one connection."""

    def __init__(self, connection: redis.Redis, *, is_stopping: Callable[[], bool] = never_stopping) -> None:
        self._is_stopping = is_stopping
        self._connection = connection
        self.headroom = Headroom(self.memory)
        self._live = (live.channel(connection), live.MAX_EVENTS_PER_SECOND, live.MAX_BYTES_PER_SECOND)
        self._claim = connection.register_script(scripts.load("allow_oom", "clock", "pause_state", "coalesce", "claim"))
        self._claim_more = connection.register_script(
            scripts.load("allow_oom", "clock", "pause_state", "coalesce", "deliver/prefetch")
        )
        self._release = connection.register_script(scripts.load("allow_oom", "types", "release"))
        self._fan_out = connection.register_script(
            scripts.load("types", "arguments", "settlement", "expand/live", "expand/fan_out")
        )
        self._settle = connection.register_script(
            scripts.load(
                "allow_oom",
                "types",
                "arguments",
                "settlement",
                "clock",
                "pause_state",
                "deliver/settle",
            )
        )

    def claim(
        self,
        *,
        queue: str,
        job_id: str,
        own_arguments: Sequence[Any],
        max_items: int,
        max_bytes: int,
        handler: str = "",
        lease_seconds: float = 0.0,
    ) -> list[ClaimedJob]:
        """Give the running job and those waiting behind it, up to the limits, all now owned by this run.

        A job that this release cannot read goes back to the end of the queue, to fail alone. Raises StaleRun if the
        running job is gone: somebody else has ended it. With a `handler`, raises OnHold while that is paused; the run
        that may try one event after that is the only one for `lease_seconds`.
        """
        settled, *rest = self._claim(
            keys=[
                keys.rq_queue(queue),
                keys.coalesced(job_id),
                keys.job(job_id),
                *([keys.paused(handler)] if handler else []),
            ],
            args=[
                max_items,
                max_bytes,
                keys.job(""),
                keys.COALESCED_PREFIX,
                math.ceil(lease_seconds * 1000),
                _PAUSE_KEPT_MS,
            ],
        )
        if settled is None:
            raise StaleRun
        if settled == 0:
            raise HandlerPaused(HandlerPaused.__doc__)
        deaths, finished, is_probe, items, *others = rest
        claimed_jobs = [
            ClaimedJob(
                job_id,
                settled.decode(),
                queues.check_version(own_arguments),
                coalesced=False,
                deaths=deaths,
                finished=completion_journal.parse_finished(finished.decode()),
                is_probe=bool(is_probe),
                items=int(items or 0),
            )
        ]
        return [*claimed_jobs, *self._read_coalesced(queue, job_id, others)]

    def claim_more(
        self, *, queue: str, job_id: str, worker: str, max_items: int, max_bytes: int, handler: str
    ) -> list[ClaimedJob]:
        """Give a handler's run that goes on more of the jobs that wait, as `claim` does; `worker` is who runs it.

        None, if the run has lost its job, or the handler is paused. Raises redis.RedisError: then nobody knows whether
        jobs were taken, which the run's own job has to be put back for.
        """
        places = [keys.rq_queue(queue), keys.coalesced(job_id), keys.job(job_id), keys.paused(handler)]
        found = self._claim_more(keys=places, args=[max_items, max_bytes, keys.job(""), keys.COALESCED_PREFIX, worker])
        return self._read_coalesced(queue, job_id, found)

    def _read_coalesced(self, queue: str, job_id: str, found: Iterable[Sequence[bytes]]) -> list[ClaimedJob]:
        claimed_jobs = []
        for other, settled, data, finished, items in found:
            try:
                claimed = ClaimedJob(
                    other.decode(),
                    settled.decode(),
                    queues.parse_arguments(data),
                    coalesced=True,
                    finished=completion_journal.parse_finished(finished.decode()),
                    size_bytes=len(data),
                    items=int(items or 0),
                )
                progress.parse(claimed.progress)
            except Exception as exc:  # noqa: BLE001 # whatever is wrong with one job must not hold back the others
                self.release(queue, job_id, other.decode(), exc)
                continue
            claimed_jobs.append(claimed)
        return claimed_jobs

    def release(self, queue: str, job_id: str, other: str, error: Exception) -> None:
        """Put a job that the running one took along, and that cannot be read, back to its queue, to fail alone."""
        log.error("action=job_unreadable queue=%s job=%s error=%s", queue, other, error)
        self._release(keys=[keys.rq_queue(queue), keys.coalesced(job_id), keys.job(other)], args=[other])

    def fan_out(
        self,
        *,
        run_id: str,
        settlements: Iterable[Settlement],
        mark_seconds: int,
        deliveries: Iterable[DeliveryPlan],
        events: Sequence[FanOutEvent],
        unreadable: Sequence[NewFailure],
    ) -> FanOutResult:
        """Enqueue what is new of `events` for the handlers that want it; give how many were new, and how many not.

        Raises StaleRun if another run has settled any of these items before.
        """
        arguments = _settlement_arguments(run_id, settlements)
        arguments += (mark_seconds, keys.SEEN_PREFIX, *self._live)
        append_list(arguments, [_plan_arguments(delivery) for delivery in deliveries])
        groups = _group_events(events)
        append_list(arguments, groups)
        append_list(arguments, [(entry.kind, entry.records, *failure_arguments(entry)) for entry in unreadable])
        arguments.append(keys.REUSED_REQ_UUIDS)
        current, *numbers = retry_while_unavailable(
            lambda: self._fan_out(keys=[keys.COUNTS, keys.RQ_QUEUES, keys.QUARANTINE, keys.LIVE], args=arguments),
            is_stopping=self._is_stopping,
        )
        if not current:
            raise StaleRun
        new, duplicate, of_groups, reused = numbers
        # By their places in what `_groups` gives: the mask, and how many.
        made = (
            FanOutGroup(str(group[1]), int(group[3]), number) for group, number in zip(groups, of_groups, strict=False)
        )
        return FanOutResult(new, duplicate, tuple(made), reused)

    def settle(
        self,
        *,
        run_id: str,
        handler: str,
        settlements: Iterable[Settlement],
        counts: Mapping[str, int],
        dead: Sequence[NewFailure],
        later: Sequence[ScheduledRetry],
        change: PauseChange = NO_CHANGE,
    ) -> SettleResult:
        """Write down what became of deliveries, and what that says of a pause. Raises StaleRun as `fan_out` does."""
        arguments = _settlement_arguments(run_id, settlements)
        append_list(arguments, list(counts.items()))
        append_list(
            arguments,
            [
                (
                    keys.handler_counter(handler, entry.kind, "dead"),
                    keys.handler_counter(handler, entry.kind, "dropped"),
                    *failure_arguments(entry),
                )
                for entry in dead
            ],
        )
        append_list(arguments, [(keys.job(j.job_id), j.job_id, j.due, *flatten(j.fields)) for j in later])
        arguments += (change.kind, math.ceil(change.after_seconds * 1000), change.reason, change.by, _PAUSE_KEPT_MS)
        places = [
            keys.COUNTS,
            keys.dead(handler),
            keys.rq_scheduled(queues.delivery_queue(handler)),
            keys.paused(handler),
        ]
        current, *found = retry_while_unavailable(
            lambda: self._settle(keys=places, args=arguments),
            is_stopping=self._is_stopping,
        )
        if not current:
            raise StaleRun
        is_paused, changed, ms = found
        return SettleResult(bool(is_paused), changed.decode(), ms / 1000)

    def memory(self) -> Memory:
        """Return how much memory Redis uses. Raises redis.RedisError."""
        found: Any = self._connection.info("memory")
        return memory.parse_info(found)

    def wait_for_room(self) -> bool:
        """Wait until Redis has room for a fan-out; return whether it has, or the worker is to stop before."""
        return self.headroom.wait_for_fan_out(is_stopping=self._is_stopping)

    def seconds_paused(self, handler: str) -> float:
        """Give for how long a handler is paused, at least: 0 if it is not. Raises redis.RedisError."""
        return pause.seconds_left(self._connection, handler)

    def end_memory_pause(self, handler: str) -> bool:
        """End a handler's pause, if it is one for want of memory. Raises redis.RedisError."""
        return pause.end_memory_pause(self._connection, handler)


def _settlement_arguments(run_id: str, settlements: Iterable[Settlement]) -> list[Argument]:
    arguments: list[Argument] = [keys.job(run_id), uuid.uuid4().hex]
    append_list(
        arguments,
        [
            (
                keys.job(s.claimed.job_id),
                s.claimed.job_id,
                s.start,
                s.end,
                keys.coalesced(run_id) if s.ends and s.claimed.coalesced else "",
            )
            for s in settlements
        ],
    )
    return arguments


# Stands for the events where the script puts them; no name of a handler holds it.
_EVENTS: Final = b'"\\u0000"'


def _plan_arguments(delivery: DeliveryPlan) -> tuple[Argument, ...]:
    queue = queues.delivery_queue(delivery.handler)
    # The events stand in the middle of the job's data, so its two ends are what the script needs.
    head, tail = queues.encode_delivery(delivery.handler, [_EVENTS]).split(_EVENTS)
    fields = queues.job_fields(queue=queue, function=queues.DELIVER_JOB, description="")
    return (
        delivery.handler,
        keys.rq_queue(queue),
        head,
        tail,
        *flatten(fields),
        delivery.max_events,
        keys.job(""),
        len(delivery.job_ids),
        *delivery.job_ids,
    )


def _group_events(events: Sequence[FanOutEvent]) -> list[list[Argument]]:
    """Put together what is alike in all but marks and event: the fewer words, the less for Redis to read."""
    groups: dict[tuple[str, str, int], list[Argument]] = {}
    for event in events:
        groups.setdefault((event.kind, event.mask, len(event.marks)), []).extend((*event.marks, event.event))
    return [[kind, mask, marks, len(words) // (marks + 1), *words] for (kind, mask, marks), words in groups.items()]
