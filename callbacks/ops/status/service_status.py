"""The current status of the service as one value: the page *Now* shows it and `callbacks top` prints it.

It is read from Redis, in a few round trips however many jobs wait; nothing is changed. What the page knows of overdue
messages is added to it. It holds no event, phone number or token.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct

from callbacks.ops.status import snapshot_reader
from callbacks.ops.status.audit_cache import AuditCache, Balance
from callbacks.ops.status.overdue import OverdueCounter, OverdueStatus
from callbacks.ops.status.snapshot import QueueStatus, Snapshot, SpoolStatus
from shared import events, queues, refusals
from shared.durability_findings import Finding
from shared.failing_loops import FailingLoop
from shared.last_times import LastTimes
from shared.metrics import CALL_BUCKETS, DELIVERY_BUCKETS
from shared.recent_outcomes import RecentOutcomes
from shared.recent_rate import AcknowledgeTimes, Bucket, RefusalCount, estimate_percentile
from shared.retention import RetentionState
from shared.settings import Settings
from workers.deliver.error_text import masked_line
from workers.runtime.pause import PausedBy, PauseState

AUDIT_EVERY_SECONDS: Final = 5.0
_RATE_BUCKETS: Final = 6
_MIN_FAILURES: Final = 3

HandlerStateName: TypeAlias = Literal["active", "failing", "paused", "no worker", "removed"]
_BY_URGENCY: Final[tuple[HandlerStateName, ...]] = ("failing", "no worker", "paused", "active", "removed")


class HandlerPause(Struct, frozen=True, kw_only=True):
    """A pause: by the "handler" (its target is unavailable), an "operator", or "memory" (no room for retries).

    `reason` is the handler's, with numbers and texts masked. `probe_in_seconds` is when one event is tried next; None
    for an operator's pause, which ends when an operator says so.
    """

    by: PausedBy
    seconds: float
    reason: str
    probe_in_seconds: float | None


class Percentiles(Struct, frozen=True, kw_only=True):
    """How many seconds something took in the last ten minutes, estimated from a histogram: exact to a bucket."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


class HandlerStatus(Struct, frozen=True, kw_only=True):
    """The status of one handler; its numbers, but `workers`, count events.

    `delivered` is the total; `waiting` includes `retrying`, the events that failed and wait for their next attempt;
    `dead` counts dead letters, `recent_dead` those of the last hour. `tried` and `failed` are the attempts of the last
    ten minutes, in which its calls took `call_times` (of a batch handler each call has a batch), and its deliveries
    `delivery_times` from the receipt of the callback; None if there were none. `last` is when it last did what.
    `workers` is the number of live processes. `is_subscribed`: it gets new events.
    """

    handler: str
    delivered: int
    waiting: int
    retrying: int
    dead: int
    recent_dead: int = 0
    tried: int = 0
    failed: int = 0
    pause: HandlerPause | None = None
    call_times: Percentiles | None = None
    delivery_times: Percentiles | None = None
    last: LastTimes = LastTimes()
    workers: int
    is_subscribed: bool = True

    @property
    def state(self) -> HandlerStateName:
        """Its state in one word; the worst that applies."""
        if self.pause is not None:
            return "paused"
        if not self.workers:
            return "no worker" if self.is_subscribed or self.waiting else "removed"
        return "failing" if self.is_failing else "active"

    @property
    def urgency(self) -> int:
        """Its place in a list that has trouble first."""
        return _BY_URGENCY.index(self.state)

    @property
    def is_failing(self) -> bool:
        """Whether most of what was tried lately failed. One or two failures are not judged."""
        return self.failed >= _MIN_FAILURES and 2 * self.failed > self.tried


class RefusalStatus(RefusalCount, frozen=True, kw_only=True):
    """How many requests were refused for a reason.

    `address` is that of the last one, `address_seconds_ago` when it was refused; "" and None if there was none in the
    last ten minutes.
    """

    status: int
    address: str
    address_seconds_ago: float | None = None

    @property
    def title(self) -> str:
        """What happened."""
        return refusals.REASONS[self.reason].title

    @property
    def remedy(self) -> str:
        """What to do."""
        return refusals.REASONS[self.reason].remedy


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """The status at the time `at` of Redis.

    `recent_rate` are the buckets of the last hour, oldest first; the newest ended a few seconds ago.
    `callbacks_per_second` is the mean of the last minute of them. `refused` are the requests that were refused in that
    hour, by reason and sender; `unreadable` the records in which a field could not be read, by field;
    `unknown_statuses` all reports so far with a status that is not documented, by status. `queues` begin with "expand";
    they count jobs, of which each holds many events. Removed handlers of which nothing is left are not listed.
    `quarantined` counts failures, `recent_quarantined` those of the last hour. `balance` is None while it is not known,
    as when very many jobs wait. `last_accepted_at` is when a callback was last accepted, None before the first;
    `silent_seconds` is for how long no callback was accepted, None if that is unknown;
    beyond `max_silence_seconds` it is an alert (CALLBACKS_NOTIFY_SILENCE_SECONDS; 0: never). `overdue` are the messages
    without a final status, which a database knows (`status.overdue`). `damaged` are the keys of values in Redis that
    cannot be read: what rests on them is missing.
    """

    at: datetime
    callbacks_per_second: float
    recent_rate: tuple[Bucket, ...]
    acknowledged: AcknowledgeTimes
    queues: tuple[QueueStatus, ...]
    handlers: tuple[HandlerStatus, ...]
    workers: int
    web_processes: int
    findings: tuple[Finding, ...]
    used_bytes: int
    max_bytes: int
    spools: tuple[SpoolStatus, ...]
    failing: tuple[FailingLoop, ...] = ()
    retention: tuple[RetentionState, ...] = ()
    refused: tuple[RefusalStatus, ...] = ()
    accepted_ten_minutes: int = 0
    unreadable: tuple[tuple[str, int], ...] = ()
    unknown_statuses: tuple[tuple[str, int], ...] = ()
    quarantined: int
    recent_quarantined: int = 0
    balance: Balance | None
    last_accepted_at: datetime | None = None
    silent_seconds: float | None = None
    max_silence_seconds: int = 0
    overdue: OverdueStatus | None = None
    damaged: tuple[str, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether no callback was accepted for longer than the setting allows."""
        return 0 < self.max_silence_seconds < (self.silent_seconds or 0.0)

    @property
    def durable(self) -> bool:
        """Whether Redis keeps what it acknowledges, as CALLBACKS_DURABILITY asks."""
        return all(finding.ok for finding in self.findings)

    @property
    def gateway_gives_up_in_seconds(self) -> float | None:
        """For how long the gateway still sends the first callback that nothing could store; None if all are stored."""
        return min((spool.refused_left_seconds for spool in self.spools if spool.refused), default=None)


def read_status(client: redis.Redis, settings: Settings, audit_cache: AuditCache | None = None) -> ServiceStatus:
    """Return the current status, as far as Redis has it. Raise redis.RedisError.

    A caller that reads it repeatedly passes an `AuditCache` of AUDIT_EVERY_SECONDS, which limits how often the audit
    runs. Without one it runs each time, unless very many jobs wait.
    """
    found = snapshot_reader.read_snapshot(client, settings.durability)
    if audit_cache is None:
        audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)
    handlers = tuple(one for one in _handlers(found) if one.state != "removed" or one.waiting or one.dead)
    listed = {queues.EXPAND, *(queues.delivery_queue(one.handler) for one in handlers)}
    recent = found.recent_rate.buckets[-_RATE_BUCKETS:]
    return ServiceStatus(
        at=events.utc_time(int(found.seconds * 1000)),
        callbacks_per_second=sum(bucket.callbacks_per_second for bucket in recent) / len(recent),
        recent_rate=found.recent_rate.buckets,
        acknowledged=found.recent_rate.acknowledged,
        queues=tuple(queue for queue in found.queues if queue.name in listed),
        handlers=handlers,
        workers=sum(queue.workers for queue in found.queues),
        web_processes=len(found.spools),
        findings=found.findings,
        used_bytes=found.used_bytes,
        max_bytes=found.max_bytes,
        spools=found.spools,
        failing=found.failing,
        retention=found.retention,
        refused=tuple(_refused(found)),
        accepted_ten_minutes=found.recent_rate.accepted_ten_minutes,
        unreadable=found.recent_rate.unreadable,
        unknown_statuses=tuple((status, number) for status, number in found.unknown_statuses().items() if number),
        quarantined=found.quarantined,
        recent_quarantined=found.recent_quarantined,
        balance=audit_cache.get(found.jobs),
        last_accepted_at=found.last_accepted_at,
        silent_seconds=found.silent_seconds,
        max_silence_seconds=settings.notify_silence_seconds,
        damaged=found.damaged,
    )


def with_overdue(status: ServiceStatus, counter: OverdueCounter | None) -> ServiceStatus:
    """Return the status with the overdue messages that `counter` knows of; without a counter, the same."""
    return status if counter is None else msgspec.structs.replace(status, overdue=counter.status)


def read_handler(client: redis.Redis, settings: Settings, name: str) -> HandlerStatus | None:
    """Return the status of one handler; None for an unknown one. Raise redis.RedisError."""
    found = snapshot_reader.read_snapshot(client, settings.durability)
    return next((one for one in _handlers(found) if one.handler == name), None)


def _refused(found: Snapshot) -> Iterator[RefusalStatus]:
    for count in found.recent_rate.refused:
        last = found.refused_addresses.get(refusals.address_name(count.reason, count.sender))
        yield RefusalStatus(
            **msgspec.structs.asdict(count),
            status=refusals.REASONS[count.reason].status,
            address="" if last is None else last.address,
            address_seconds_ago=None if last is None else last.seconds_ago,
        )


def _handlers(found: Snapshot) -> tuple[HandlerStatus, ...]:
    by_name = {queue.name: queue for queue in found.queues}
    rows = []
    for handler, dead in found.dead.items():
        queue = by_name[queues.delivery_queue(handler)]
        outcomes = found.recent_outcomes.get(handler, RecentOutcomes())
        rows.append(
            HandlerStatus(
                handler=handler,
                delivered=found.deliveries_at(handler)["delivered"],
                waiting=found.events_waiting(handler),
                retrying=queue.scheduled,  # each scheduled job holds one event
                dead=dead,
                recent_dead=found.recent_dead.get(handler, 0),
                tried=outcomes.tried,
                failed=outcomes.failed,
                call_times=_percentiles(outcomes.calls, CALL_BUCKETS),
                delivery_times=_percentiles(outcomes.deliveries, DELIVERY_BUCKETS),
                last=found.last_times(handler),
                pause=None if queue.pause_state is None else _pause(queue.pause_state, found.seconds),
                workers=queue.workers,
                is_subscribed=handler in found.subscribed,
            )
        )
    return tuple(rows)


def _percentiles(counts: Sequence[int], bounds: Sequence[float]) -> Percentiles | None:
    p50, p95, p99 = (estimate_percentile(counts, share, bounds=bounds) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return Percentiles(p50_seconds=p50, p95_seconds=p95, p99_seconds=p99)


def _pause(state: PauseState, now_seconds: float) -> HandlerPause:
    return HandlerPause(
        by=state.by,
        seconds=max(0.0, now_seconds - state.since.timestamp()),
        reason=masked_line(state.reason),
        probe_in_seconds=None if state.until is None else state.seconds_left,
    )
