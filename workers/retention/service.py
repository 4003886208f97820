"""The thread that removes what is too old from the stores of a supervisor's handlers.

A database can take half a minute to fail, so maintenance, which has leases to renew, does not wait for it. Several
supervisors may remove from one store at the same time. What was found is written to Redis, for the operators' page, its
metrics and its alerts (`shared.retention`).
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import redis

from shared import batches, keys
from shared.background import Background
from shared.events import to_unix_ms
from shared.metrics import RETENTION_REMOVED, Metrics
from shared.rate_limited_log import RateLimitedLog
from shared.retention import RetentionState
from shared.structured_log import get_logger
from workers.retention.stores import AgingStore, RetentionFailed
from workers.runtime.isolation import run_for_each

log = get_logger("callbacks.supervisor")

_FIRST_SECONDS: Final = 2.0
_EVERY_SECONDS: Final = 60.0
_LOG_SECONDS: Final = 3600.0


class RetentionService:
    """Removes from `stores` once a minute, from `start` to `close`; `metrics` counts what was removed."""

    def __init__(
        self, stores: Sequence[AgingStore], *, connection: redis.Redis, metrics: Metrics, background: Background
    ) -> None:
        self._stores = stores
        self._connection: Any = connection
        self._metrics = metrics
        self._states: dict[str, RetentionState] = {}
        self._log = RateLimitedLog(log, interval_seconds=_LOG_SECONDS)
        self._next_at = 0.0
        self._ending = threading.Event()
        self._thread = background.make_thread("retention", self.step, every_seconds=_FIRST_SECONDS, ending=self._ending)

    def start(self) -> None:
        """Start the thread, if there is a store."""
        if self._stores:
            self._thread.start()

    def close(self) -> None:
        """Ask the thread to stop. It ends with the process, as a database may not answer for half a minute."""
        self._ending.set()

    def step(self) -> None:
        """Remove from each store if a minute has passed. A store that fails does not stop the others."""
        if time.monotonic() >= self._next_at:
            try:
                run_for_each(self._stores, self._maintain)
            finally:
                self._next_at = time.monotonic() + _EVERY_SECONDS

    def _maintain(self, store: AgingStore) -> None:
        before = datetime.now(UTC) - timedelta(days=store.days)
        state = self._states.get(store.name) or RetentionState(store=store.name, days=store.days, at_ms=0)
        try:
            oldest = store.find_oldest()
            if oldest is not None and oldest < before:
                self._record_removed(store, store.remove_old(before, self._ending.wait))
                oldest = store.find_oldest()
        except RetentionFailed as exc:
            self._log.warning("retention_failed", {"store": store.name}, error=str(exc))
            state = msgspec.structs.replace(
                state, failing_since_ms=state.failing_since_ms or batches.now_ms(), error=str(exc)
            )
        else:
            oldest_ms = None if oldest is None else to_unix_ms(oldest)
            state = msgspec.structs.replace(state, oldest_ms=oldest_ms, failing_since_ms=0, error="")
        state = self._states[store.name] = msgspec.structs.replace(state, at_ms=batches.now_ms())
        with contextlib.suppress(redis.RedisError, OSError):  # others log that Redis is unavailable
            self._connection.hset(keys.RETENTION, store.name, msgspec.json.encode(state))

    def _record_removed(self, store: AgingStore, number: int) -> None:
        if number:
            kind = store.name.partition("@")[0]
            self._metrics.add((RETENTION_REMOVED, kind), number)
            log.info("retention_removed", store=store.name, items=number, days=store.days)
