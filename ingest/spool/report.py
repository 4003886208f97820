"""What operators see of the spool: a log line when its state changes, and its part of /readyz and /metrics.

    drained    nothing waits; Redis takes everything
    filling    Redis does not take what arrives, or has not yet taken what waits
    full       the spool has no room: callbacks are refused
    failing    the spool's disk fails: callbacks are refused, or would be

The gateway sends a refused callback three times, five minutes apart, then discards it ("Callback failure" in the
specification). So the report also counts refused callbacks, and says how long the first of them will still be sent.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from ingest import log
from ingest.durability_gate import CommitGate
from ingest.spool.fill_rate import FillRate
from ingest.spool.folder import SpoolFolder, SpoolFull
from shared.errors import StoreUnavailable

State: TypeAlias = Literal["drained", "filling", "full", "failing"]
Destination: TypeAlias = Literal["redis", "spool", "none"]

# From the first attempt of the gateway to its last.
GATEWAY_RETRY_SECONDS: Final = 600.0
# A spool that has refused stays "full" or "failing" for this long, even if single batches fit. Otherwise the log would
# have a change of state for each of them.
_STATE_HOLD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class RefusalSummary:
    """Callbacks refused since `since_seconds` (of 1970). The gateway sends the first for another `left_seconds`."""

    callbacks: int
    since_seconds: float
    left_seconds: float


class RefusalCounter:
    """Counts refused callbacks, once for each attempt of the gateway."""

    def __init__(self, *, now_seconds: Callable[[], float] = time.time) -> None:
        self._now_seconds = now_seconds
        self._callbacks = 0
        self._first_seconds = 0.0
        self._last_seconds = 0.0

    def add(self, callbacks: int) -> None:
        """Count `callbacks` that were refused now."""
        now_seconds = self._now_seconds()
        if self.summary() is None:
            self._callbacks, self._first_seconds = 0, now_seconds
        self._callbacks += callbacks
        self._last_seconds = now_seconds

    def summary(self) -> RefusalSummary | None:
        """Return what was refused; None once nothing has been refused for GATEWAY_RETRY_SECONDS."""
        now_seconds = self._now_seconds()
        if not self._callbacks or now_seconds - self._last_seconds > GATEWAY_RETRY_SECONDS:
            return None
        left_seconds = max(0.0, self._first_seconds + GATEWAY_RETRY_SECONDS - now_seconds)
        return RefusalSummary(self._callbacks, self._first_seconds, left_seconds)


class SpoolReport:
    """Records what happens to batches. `folder` is None if there is no spool."""

    def __init__(
        self, gate: CommitGate, folder: SpoolFolder | None, *, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.state: State = "drained"
        self.refusals = RefusalCounter()
        self._gate = gate
        self._folder = folder
        self._now_seconds = now_seconds
        self._why = ""
        self._redis_refusal: str | None = None
        self._redis_refused_seconds = float("-inf")
        self._trouble = ""
        self._trouble_seconds = float("-inf")
        self._drained_callbacks = 0
        self._fill_rate = FillRate(now_seconds=now_seconds)

    def redis_accepted(self) -> None:
        """Record that Redis has taken a batch."""
        self._redis_refusal = None

    def redis_refused(self, why: str) -> None:
        """Record that Redis has not taken a batch, or that nobody knows whether it has."""
        self._why = why
        # While the gate is closed this is known already, and it ends when the gate opens.
        self._redis_refusal = why if self._gate.blocked_reason is None else None
        self._redis_refused_seconds = self._now_seconds()

    def redis_refused_within(self, seconds: float) -> bool:
        """Return whether Redis has refused a batch in the last `seconds`."""
        return self._now_seconds() - self._redis_refused_seconds < seconds

    def leftovers_found(self) -> None:
        """Record what a process that has ended left in the folder, if anything."""
        if self._folder is not None and self._has_backlog() and self.state == "drained":
            self._set_state("filling", callbacks=self._folder.backlog.callbacks, why="left by a process that ended")

    def spooled(self) -> None:
        """Record that the spool has taken a batch."""
        if self._folder is not None:
            self._fill_rate.add(self._folder.backlog.size_bytes)
        if self.state == "drained" or self._trouble_is_over():
            self._set_state("filling", why=self._why)

    def failed(self, why: StoreUnavailable) -> None:
        """Record that the spool failed, though no callback was refused for it."""
        self._trouble, self._trouble_seconds = str(why), self._now_seconds()
        self._set_state("full" if isinstance(why, SpoolFull) else "failing", why=self._trouble)

    def disk_recovered(self) -> None:
        """Record that the spool's disk can be written again."""
        # While Redis is unavailable, larger batches may still fail.
        if self.state == "failing" and (self._gate.blocked_reason is None or self._trouble_is_over()):
            self._set_state("filling" if self._has_backlog() else "drained", why="its disk works again")

    def refused(self, callbacks: int, why: StoreUnavailable) -> None:
        """Record that `callbacks` were refused: neither Redis nor the spool has them."""
        self.refusals.add(callbacks)
        if self._folder is not None:
            self.failed(why)
        total = self.refusals.summary()
        if total is not None:
            log.limited.warning(
                "spool_refused",
                callbacks=total.callbacks,
                since=_rfc3339(total.since_seconds),
                left_seconds=round(total.left_seconds),
                why=str(why),
            )

    def drained(self, callbacks: int) -> None:
        """Record that Redis has taken `callbacks` from the spool."""
        if self._folder is not None:
            self._fill_rate.add(self._folder.backlog.size_bytes)
        self._drained_callbacks += callbacks
        if not self._has_backlog() and self.state != "drained":
            self._set_state("drained", callbacks=self._drained_callbacks)
            self._drained_callbacks = 0

    def checks(self) -> dict[str, dict[str, Any]]:
        """Return the checks of /readyz that belong to the spool."""
        checks = {"spool": self._check()}
        # Redis passes every check of the gate, and still takes nothing (MISCONF, a proxy's limits).
        if self._redis_refusal is not None and self._gate.blocked_reason is None and self._has_backlog():
            checks["redis_writes"] = {
                "ok": False,
                "detail": f"refused: {self._redis_refusal}",
                "remedy": "see the log of Redis",
            }
        return checks

    def destination(self) -> Destination:
        """Return where a callback that came now would be stored."""
        if self._gate.blocked_reason is None and (self._redis_refusal is None or not self._has_backlog()):
            return "redis"
        return "spool" if self._can_append() else "none"

    def full_in_seconds(self) -> float:
        """Return in how many seconds the spool is full, as it has grown in the last minute; infinity if it does not."""
        if self._folder is None:
            return math.inf
        if self.state == "full":
            return 0.0
        return self._fill_rate.seconds_until(self._folder.limit_bytes)

    def metrics(self) -> dict[str, int | float | str]:
        """Return what /metrics shows of this process's spool and refusals. Any thread may call it."""
        found: dict[str, int | float | str] = {"state": "none", "callbacks": 0, "bytes": 0, "limit_bytes": 0}
        if self._folder is not None:
            backlog = self._folder.backlog
            found = {
                "state": self.state,
                "callbacks": backlog.callbacks,
                "bytes": backlog.size_bytes,
                "limit_bytes": self._folder.limit_bytes,
            }
        total = self.refusals.summary()
        if total is not None:
            found |= {"refused": total.callbacks, "refused_left_seconds": round(total.left_seconds, 1)}
        return found

    def _check(self) -> dict[str, Any]:
        check: dict[str, Any] = {"ok": True, "detail": "none: callbacks that Redis does not take are refused"}
        if self._folder is not None:
            backlog = self._folder.backlog
            check = {
                # A spool that cannot take anything matters only while Redis does not either.
                "ok": self._can_append() or self._gate.blocked_reason is None,
                "detail": self.state if self._can_append() else f"{self.state}: {self._trouble}",
                "waiting_callbacks": backlog.callbacks,
                "bytes": backlog.size_bytes,
                "limit_bytes": self._folder.limit_bytes,
            }
            if backlog.oldest_ms is not None:
                check["oldest_seconds"] = round(max(0.0, time.time() - backlog.oldest_ms / 1000), 1)
            if not self._can_append():
                full = "make Redis available, or raise CALLBACKS_SPOOL_MAX_BYTES"
                check["remedy"] = full if self.state == "full" else "check the disk of CALLBACKS_SPOOL_DIR"
        total = self.refusals.summary()
        if total is not None:
            check["refused"] = {
                "callbacks": total.callbacks,
                "since": _rfc3339(total.since_seconds),
                "gateway_gives_up_in_seconds": round(total.left_seconds, 1),
            }
        return check

    def _has_backlog(self) -> bool:
        return self._folder is not None and self._folder.backlog.callbacks > 0

    def _trouble_is_over(self) -> bool:
        return self._now_seconds() - self._trouble_seconds >= _STATE_HOLD_SECONDS

    def _can_append(self) -> bool:
        return self._folder is not None and self.state in ("drained", "filling")

    def _set_state(self, state: State, **fields: object) -> None:
        if state == self.state:
            return
        self.state = state
        write = {"drained": log.logger.info, "filling": log.logger.warning}.get(state, log.logger.error)
        write("spool", state=state, **fields)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
