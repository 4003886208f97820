"""The service's state in Redis at one moment: queues, counters, spools, failures. `snapshot_reader` reads it."""

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from shared import audit, keys, last_times
from shared.durability_findings import Finding
from shared.failing_loops import FailingLoop
from shared.last_times import LAST_ACCEPTED, LastTimes
from shared.metrics import MAX_UNKNOWN_STATUSES, OTHER, SEPARATOR, UNKNOWN_STATUS
from shared.recent_outcomes import RecentOutcomes
from shared.recent_rate import RecentRate
from shared.retention import RetentionState
from shared.stored_times import stored_time
from workers.runtime.pause import PauseState

# More handlers than a deployment has. Others are not shown, which limits the number of series.
MAX_HANDLERS: Final = 100
KINDS: Final[tuple[keys.CountedKind, ...]] = ("report", "reply", "unknown")
OUTCOMES: Final[tuple[keys.DeliveryOutcome, ...]] = (
    "queued", "delivered", "filtered", "dead", "dropped", "forgotten"
)  # fmt: skip


class SpoolStatus(Struct, frozen=True):
    """A web process's spool, as it reports: "none", "drained", "filling", "full" or "failing", and how much is in it.

    `refused` are the callbacks that neither Redis nor the spool could keep, until ten minutes after the last; the
    gateway sends the first of them again for another `refused_left_seconds`.
    """

    state: str
    callbacks: int
    size_bytes: int
    limit_bytes: int
    refused: int = 0
    refused_left_seconds: float = 0.0


class RefusedAddress(Struct, frozen=True):
    """The address of a refused request, and how many seconds ago it was refused."""

    address: str
    seconds_ago: float


class QueueStatus(Struct, frozen=True, kw_only=True):
    """A queue: jobs waiting, running and to be tried later, the age of the first that waits, workers that live.

    `pause_state` says who paused it, and why.
    """

    name: str
    pause_state: PauseState | None = None
    waiting: int
    running: int
    scheduled: int
    oldest_seconds: float
    workers: int

    @property
    def is_idle(self) -> bool:
        """Whether it has workers and no job."""
        return bool(self.workers) and not self.waiting + self.running + self.scheduled

    @property
    def paused_by(self) -> str:
        """Who paused it: its "handler", an "operator", "memory" (it fails, and Redis is nearly full), or ""."""
        return "" if self.pause_state is None else self.pause_state.by


class Snapshot(Struct, frozen=True, kw_only=True):
    """All of it, at the time `seconds` of Redis.

    `dead` counts a handler's dead letters, `recent_dead` those of the last hour, `recent_outcomes` its attempts of the
    last ten minutes. `subscribed` are the handlers that get new events. `refused_addresses` has, by
    `refusals.address_name`, the address of the last refused request in ten minutes. `damaged` are the keys of values
    that cannot be read.
    """

    seconds: float
    recent_rate: RecentRate
    counts: dict[str, int]
    metrics: dict[str, int]
    findings: tuple[Finding, ...]
    used_bytes: int
    max_bytes: int
    quarantined: int
    recent_quarantined: int = 0
    dead: dict[str, int]
    recent_dead: dict[str, int] = msgspec.field(default_factory=dict)
    recent_outcomes: dict[str, RecentOutcomes] = msgspec.field(default_factory=dict)
    subscribed: frozenset[str] = frozenset()
    queues: tuple[QueueStatus, ...]
    spools: tuple[SpoolStatus, ...]
    failing: tuple[FailingLoop, ...] = ()
    retention: tuple[RetentionState, ...] = ()
    refused_addresses: dict[str, RefusedAddress] = msgspec.field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def jobs(self) -> int:
        """How many jobs there are, whatever their state: what an audit has to read."""
        return sum(queue.waiting + queue.running + queue.scheduled for queue in self.queues)

    @property
    def silent_seconds(self) -> float | None:
        """For how long no callback was accepted, before the first one since a web process started; None if unknown."""
        last = self.metrics.get(LAST_ACCEPTED)
        return None if last is None else max(0.0, self.seconds - last)

    @property
    def last_accepted_at(self) -> datetime | None:
        """When the last callback was accepted; None before the first."""
        prefix = LAST_ACCEPTED + SEPARATOR
        of_sources = [seconds for name, seconds in self.metrics.items() if name.startswith(prefix)]
        return stored_time(max(of_sources) * 1000) if of_sources else None

    def last_times(self, handler: str) -> LastTimes:
        """Return when a handler last delivered, retried and gave up."""
        return last_times.parse_handler(self.metrics.get(name) for name in last_times.handler_names(handler))

    def deliveries_at(self, handler: str) -> dict[keys.DeliveryOutcome, int]:
        """Return how many events of all kinds had each outcome at a handler."""
        return {
            outcome: sum(self.counts.get(keys.handler_counter(handler, kind, outcome), 0) for kind in KINDS)
            for outcome in OUTCOMES
        }

    def unknown_statuses(self) -> dict[str, int]:
        """Return how many reports had a status that the specification does not have, by status, the most first.

        Those beyond the first MAX_UNKNOWN_STATUSES are counted together as the last, "other".
        """
        prefix = UNKNOWN_STATUS + SEPARATOR
        counted = {name.removeprefix(prefix): n for name, n in self.metrics.items() if name.startswith(prefix)}
        other = counted.pop(OTHER, 0)
        named = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        other += sum(number for _, number in named[MAX_UNKNOWN_STATUSES:])
        return {**dict(named[:MAX_UNKNOWN_STATUSES]), OTHER: other}

    def events_waiting(self, handler: str) -> int:
        """Return how many events wait for a handler, retries included."""
        at = self.deliveries_at(handler)
        return at["queued"] - sum(at[outcome] for outcome in audit.SETTLED_OUTCOMES)
