"""Runs bulk actions in background threads, a few at a time.

A request starts an action and answers at once. The remaining work is stored in Redis, so that it outlives this process.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import redis

from shared.errors import CallbacksError
from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS, RateLimitedLog
from shared.structured_log import get_logger
from workers.admin.action_log import Action
from workers.admin.bulk_action import BulkActions, BulkActionState, Work

log = get_logger("callbacks.operators")

# More would slow Redis and the workers down.
_MAX_RUNNING: Final = 4


class TooManyActions(CallbacksError):
    """Too many actions are running: wait until one has ended, then try again."""


class BulkActionRunner:
    """Runs bulk actions. Every method may raise redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._actions = BulkActions(client)
        self._is_stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_MAX_RUNNING, thread_name_prefix="act")
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}
        self._limited_log = RateLimitedLog(log, interval_seconds=EXCEPTION_INTERVAL_SECONDS)

    def start(self, action: Action, work: Work, action_id: str) -> None:
        """Start an action and run it in the background. Raise TooManyActions and AlreadyStarted."""
        self._require_room()
        self._submit(self._actions.start(action, work, action_id))

    def resume(self, action_id: str, who: str) -> str:
        """Resume a stopped action for `who`; return the new id. Raise TooManyActions and NothingToResume."""
        self._require_room()
        rest = self._actions.resume(action_id, who)
        self._submit(rest)
        return rest

    def get_state(self, action_id: str) -> BulkActionState | None:
        """Return the state of an action; None if it does not exist."""
        return self._actions.get_state(action_id)

    def stop(self, action_id: str) -> None:
        """Ask an action to stop, whichever process runs it."""
        self._actions.stop(action_id)

    def wait(self, action_id: str, *, seconds: float) -> None:
        """Wait at most `seconds` for the end of an action that this process runs: most take less."""
        with self._lock:
            future = self._running.get(action_id)
        if future is not None:
            wait([future], timeout=seconds)

    def close(self) -> None:
        """Stop each action after its current step; another process can resume it."""
        self._is_stopping.set()
        self._pool.shutdown()

    def _require_room(self) -> None:
        with self._lock:
            if len(self._running) >= _MAX_RUNNING:
                raise TooManyActions

    def _submit(self, action_id: str) -> None:
        with self._lock:
            self._running[action_id] = self._pool.submit(self._run, action_id)

    def _run(self, action_id: str) -> None:
        try:
            self._actions.run(action_id, is_stopping=self._is_stopping.is_set)
        except redis.RedisError as exc:
            log.warning("bulk_action_interrupted", id=action_id, error=type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 # nobody reads what the pool's future holds
            self._limited_log.exception("bulk_action_failed", exc, id=action_id)
        finally:
            with self._lock:
                self._running.pop(action_id, None)
