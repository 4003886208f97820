"""What operators are total of the spool: a line when its state changes, and its part of /readyz.

    drained    nothing waits; Redis takes everything
    filling    Redis does not take what comes, or has yet to take what waits
    full       the spool has no room: callbacks are refused
    failing    the spool's disk does not do what it should: callbacks are refused, or would be

Whether callbacks are refused matters to the gateway's patience, so every refusal is counted against that.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, TypeAlias

from ingest import log
from ingest.refusal_counter import RefusalCounter
from ingest.spool.folder import SpoolFolder, SpoolFull
from shared.errors import StoreUnavailable

State: TypeAlias = Literal["drained", "filling", "full", "failing"]

# A spool that has refused stays "full" or "failing" for as long, though single batches fit: or the log would tell a
# change with each of them.
_STAYS_SECONDS: Final = 10.0


class Gate(Protocol):
    """Knows whether Redis keeps what it acknowledges (see ingest/health.py)."""

    @property
    def blocked_reason(self) -> str | None:
        """Why nothing may be committed now, or None."""


class SpoolReport:
    """Takes note of what becomes of batches. `folder` is None where there is no spool."""

    def __init__(
        self, gate: Gate, folder: SpoolFolder | None, *, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.state: State = "drained"
        self.refusals = RefusalCounter()
        self._gate = gate
        self._folder = folder
        self._now_seconds = now_seconds
        self._limited_log = log.RateLimitedLog()
        self._why = ""
        self._redis_refusal: str | None = None
        self._redis_refused_seconds = float("-inf")
        self._trouble = ""
        self._trouble_seconds = float("-inf")
        self._drained_callbacks = 0

    def redis_accepted(self) -> None:
        """Take note that Redis has a batch."""
        self._redis_refusal = None

    def redis_refused(self, why: str) -> None:
        """Take note that Redis has not taken a batch, or that nobody knows."""
        self._why = why
        # With the gate closed that is no news, and it ends when the gate opens.
        self._redis_refusal = why if self._gate.blocked_reason is None else None
        self._redis_refused_seconds = self._now_seconds()

    def redis_refused_within(self, seconds: float) -> bool:
        """Whether Redis has refused a batch in the last `seconds`."""
        return self._now_seconds() - self._redis_refused_seconds < seconds

    def leftovers_found(self) -> None:
        """Take note of what a process that has ended may have left."""
        if self._folder is not None and self._waits() and self.state == "drained":
            self._turn("filling", f"callbacks={self._folder.backlog.callbacks} why='left by a process that ended'")

    def spooled(self) -> None:
        """Take note that the spool has a batch."""
        if self.state == "drained" or self._is_calm():
            self._turn("filling", f"why={self._why!r}")

    def failed(self, why: StoreUnavailable) -> None:
        """Take note that the spool cannot do what it should, though nobody has been refused for it."""
        self._trouble, self._trouble_seconds = str(why), self._now_seconds()
        self._turn("full" if isinstance(why, SpoolFull) else "failing", f"why={self._trouble!r}")

    def disk_recovered(self) -> None:
        """Take note that it can write something again."""
        # While Redis is away, larger batches may still fail.
        if self.state == "failing" and (self._gate.blocked_reason is None or self._is_calm()):
            self._turn("filling" if self._waits() else "drained", "why='its disk works again'")

    def refused(self, callbacks: int, why: StoreUnavailable) -> None:
        """Take note that `callbacks` were refused: neither Redis nor the spool has them."""
        self.refusals.add(callbacks)
        if self._folder is not None:
            self.failed(why)
        total = self.refusals.summary()
        if total is not None:
            self._limited_log.warning(
                "action=spool_refused",
                f"callbacks={total.callbacks} since={_time(total.since_seconds)} left_seconds={total.left_seconds:.0f} "
                f"why={str(why)!r}",
            )

    def drained(self, callbacks: int) -> None:
        """Take note that Redis has `callbacks` of the spool."""
        self._drained_callbacks += callbacks
        if not self._waits() and self.state != "drained":
            self._turn("drained", f"callbacks={self._drained_callbacks}")
            self._drained_callbacks = 0

    def checks(self) -> dict[str, dict[str, Any]]:
        """Give the checks of /readyz that belong to the spool."""
        checks = {"spool": self._check()}
        # Redis looks as it should, and still takes nothing (MISCONF, a proxy's limits): else nobody would be total.
        if self._redis_refusal is not None and self._gate.blocked_reason is None and self._waits():
            checks["redis_writes"] = {
                "ok": False,
                "detail": f"refused: {self._redis_refusal}",
                "remedy": "look at the log of Redis",
            }
        return checks

    def destination(self) -> Literal["redis", "spool", "none"]:
        """Say where a callback that came now would be kept."""
        if self._gate.blocked_reason is None and (self._redis_refusal is None or not self._waits()):
            return "redis"
        return "spool" if self._able() else "none"

    def metrics(self) -> dict[str, int | str]:
        """Give what /metrics shows of this process's spool. Any thread may ask."""
        if self._folder is None:
            return {"state": "none", "callbacks": 0, "bytes": 0, "limit_bytes": 0}
        backlog = self._folder.backlog
        return {
            "state": self.state,
            "callbacks": backlog.callbacks,
            "bytes": backlog.size_bytes,
            "limit_bytes": self._folder.limit_bytes,
        }

    def _check(self) -> dict[str, Any]:
        check: dict[str, Any] = {"ok": True, "detail": "none: what Redis does not take is refused"}
        if self._folder is not None:
            backlog = self._folder.backlog
            check = {
                # One that cannot take anything is a failure of readiness only when it is needed.
                "ok": self._able() or self._gate.blocked_reason is None,
                "detail": self.state if self._able() else f"{self.state}: {self._trouble}",
                "waiting_callbacks": backlog.callbacks,
                "bytes": backlog.size_bytes,
                "limit_bytes": self._folder.limit_bytes,
            }
            if backlog.oldest_ms is not None:
                check["oldest_seconds"] = round(max(0.0, time.time() - backlog.oldest_ms / 1000), 1)
            if not self._able():
                check["remedy"] = "mend Redis, or make room" if self.state == "full" else "look at the spool's disk"
        total = self.refusals.summary()
        if total is not None:
            check["refused"] = {
                "callbacks": total.callbacks,
                "since": _time(total.since_seconds),
                "gateway_gives_up_in_seconds": round(total.left_seconds, 1),
            }
        return check

    def _waits(self) -> bool:
        return self._folder is not None and self._folder.backlog.callbacks > 0

    def _is_calm(self) -> bool:
        return self._now_seconds() - self._trouble_seconds >= _STAYS_SECONDS

    def _able(self) -> bool:
        return self._folder is not None and self.state in ("drained", "filling")

    def _turn(self, state: State, about: str) -> None:
        if state == self.state:
            return
        self.state = state
        tell = {"drained": log.logger.info, "filling": log.logger.warning}.get(state, log.logger.error)
        tell("action=spool state=%s %s", state, about)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
