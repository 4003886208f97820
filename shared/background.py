"""Background work that never ends in silence (I10): the loops that run next to a process's main work.

All of them are started here. An unexpected exception is logged, the first time with its traceback, and the loop is
restarted after a pause that grows to MAX_PAUSE_SECONDS. `failing` has the loops that keep failing: the web process and
the operators' page show them in /readyz, every process pushes them with its metrics, and `callbacks check` names them.

Every place of the product that starts a task, a thread or a pool of threads, and what happens to its exceptions:

    ingest.app
        task: the durability gate and the group commit: restarted
    ingest.spool.store
        task: the drain: restarted
    ingest.spool.thread
        executor: the spool's disk: raised in the caller, logged if it no longer waits
    ingest.app
        to_thread: the end of metrics and traces: awaited
    ingest.protocol
        call_later: the time limit of a connection: `shared.uncaught`
    ingest.prometheus.snapshots
        thread: the web processes' snapshots to their /metrics: continues with its next round
    ingest.prometheus.server
        thread: a few that serve /metrics: continues with its next connection
    shared.metrics_push
        thread, loop: the metrics push: continues with its next round
    shared.cells_reader
        Thread: a reading of each cell: the cell's problem
    shared.background
        create_task, Thread: what this module starts
    shared.tracer
        Thread: the last export of spans: `shared.uncaught`
    callbacks.cli.notify
        executor: a test message to each target: raised in the command
    callbacks.ops.app
        to_thread: the end of the actions and of the notices: awaited
    callbacks.ops.api.service
        to_thread: an operation: raised in its request
    callbacks.ops.notices.service
        thread: the notices, and one for each target: continue with their next round
    callbacks.ops.access.revoked_sessions
        to_thread: a command to Redis: raised in its request
    callbacks.ops.pages.live
        to_thread: the action log's entry about whole numbers: raised in its request
    callbacks.ops.pages.live_feed
        task: the listener to live events: restarted
    callbacks.ops.pages.event_streams
        ensure_future: one page that stays open: raised in its request
    callbacks.ops.pages.bulk_actions
        executor: an operator's actions: logged, and recorded as failed
    callbacks.ops.status.backlog_history
        thread: the events that wait, every ten seconds: continues with its next round
    callbacks.ops.status.overdue
        thread: the count of overdue messages: continues with its next round
    callbacks.ops.status.single_flight
        to_thread: one reading of Redis: raised in every caller that waits
    workers.process
        Thread: the connection to the supervisor: its end ends the process
    workers.expand.expansion
        executor: the commit that runs while the next is prepared: raised in the run
    workers.runtime.maintenance
        loop: each task of maintenance: continues, as do the others
    workers.runtime.supervisor
        loop: maintenance as a whole: continues
    workers.deliver.call.caller
        create_task, call_later, call_at: a handler's calls: each one's outcome
    workers.deliver.call.lifespan
        create_task, ensure_future: a handler's lifespan: logged, and the process restarted
    workers.handlers.forward.connection
        create_task: the end of a broken connection: `shared.uncaught`
    workers.handlers.forward.write_lock
        call_later: the end of a turn that lasts too long: `shared.uncaught`
    workers.handlers.jsonl.gzip_worker
        Thread: gzip of closed files: continues with its next round
    workers.retention.service
        thread: the removal of what is too old: continues with its next round
    callbacks.simulator.gateway
        create_task: the simulator's senders: raised in the caller
    callbacks.cli.termination
        ensure_future: what a command runs until a signal: raised in the caller
"""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS, RateLimitedLog
from shared.structured_log import get_logger
from shared.tracebacks import type_name

log = get_logger("callbacks.background")

FIRST_PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 10.0
# A loop that has run for this long since its last failure is healthy.
HEALTHY_AFTER_SECONDS: Final = 10.0
# A single failure may be chance, and is only logged.
_KEEPS_FAILING: Final = 2


class Loop:
    """The state of one loop. The code that runs it reports to it; any thread may read it."""

    def __init__(
        self,
        name: str,
        *,
        max_pause_seconds: float = MAX_PAUSE_SECONDS,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._max_pause_seconds = max_pause_seconds
        self._now_seconds = now_seconds
        self._log = RateLimitedLog(log, interval_seconds=EXCEPTION_INTERVAL_SECONDS, now_seconds=now_seconds)
        self._failures = 0
        self._error = ""
        self._healthy_at_seconds = 0.0

    @property
    def error(self) -> str | None:
        """The type of the exception with which it keeps failing; None while it is healthy."""
        is_failing = self._failures >= _KEEPS_FAILING and self._now_seconds() < self._healthy_at_seconds
        return self._error if is_failing else None

    def failed(self, exc: BaseException) -> float:
        """Log the exception that ended a step or the loop. Return how many seconds to wait before the next."""
        now_seconds = self._now_seconds()
        if now_seconds >= self._healthy_at_seconds:
            self._failures = 0
        self._failures += 1
        # 2**16 is far beyond the longest pause, and no float overflows.
        pause_seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 16), self._max_pause_seconds)
        self._error = type_name(exc)
        self._healthy_at_seconds = now_seconds + pause_seconds + HEALTHY_AFTER_SECONDS
        self._log.exception("loop_failed", exc, loop=self.name)
        return pause_seconds

    def succeeded(self) -> None:
        """Record that a step succeeded."""
        if self._failures:
            log.warning("loop_recovered", loop=self.name, failures=self._failures)
        self._failures = 0

    def attempt(self, step: Callable[[], object], *, reraise: tuple[type[Exception], ...] = ()) -> float:
        """Run a step. Return 0, or the seconds to wait after a failure. Raise exceptions of the types `reraise`."""
        try:
            step()
        except reraise:
            raise
        except Exception as exc:  # noqa: BLE001 # a loop outlives unexpected exceptions
            pause_seconds = self.failed(exc)
            self._healthy_at_seconds = math.inf  # only a step that succeeds ends the failure
            return pause_seconds
        self.succeeded()
        return 0.0


class Background:
    """The loops of one process."""

    def __init__(self) -> None:
        self._loops: dict[str, Loop] = {}
        self.is_ending = False

    def stop_restarting(self) -> None:
        """Restart no task that fails from now on: the process stops, and waits for those that end by themselves."""
        self.is_ending = True

    def loop(self, name: str, *, max_pause_seconds: float = MAX_PAUSE_SECONDS) -> Loop:
        """Return the loop of that name. The caller runs it, and reports to it."""
        return self._loops.setdefault(name, Loop(name, max_pause_seconds=max_pause_seconds))

    def start_task(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        max_pause_seconds: float = MAX_PAUSE_SECONDS,
        on_failure: Callable[[], None] | None = None,
    ) -> "asyncio.Task[None]":
        """Start a task that calls `run`, again whenever it raises. It ends when `run` returns or it is cancelled.

        `on_failure` is called after each failure, before the pause. It must not raise.
        """
        loop = self.loop(name, max_pause_seconds=max_pause_seconds)
        return asyncio.create_task(self._keep_running(loop, run, on_failure), name=name)

    def make_thread(
        self, name: str, step: Callable[[], object], *, every_seconds: float, ending: threading.Event
    ) -> threading.Thread:
        """Return a thread, not yet started, that calls `step` every `every_seconds` until `ending` is set."""
        loop = self.loop(name)

        def repeat() -> None:
            pause_seconds = every_seconds
            while not ending.wait(pause_seconds):
                pause_seconds = max(every_seconds, loop.attempt(step))

        return threading.Thread(target=repeat, name=name, daemon=True)

    def failing(self) -> dict[str, str]:
        """Return the loops that keep failing, by name, with the type of exception. Any thread may call it."""
        errors = {name: loop.error for name, loop in list(self._loops.items())}
        return {name: error for name, error in errors.items() if error is not None}

    async def _keep_running(
        self, loop: Loop, run: Callable[[], Awaitable[None]], on_failure: Callable[[], None] | None
    ) -> None:
        while True:
            try:
                await run()
            except asyncio.CancelledError as exc:
                if is_cancelled():
                    raise
                pause_seconds = loop.failed(exc)
            except Exception as exc:  # noqa: BLE001 # a loop outlives unexpected exceptions
                pause_seconds = loop.failed(exc)
            else:
                return
            if on_failure is not None:
                on_failure()
            if self.is_ending:
                return
            await asyncio.sleep(pause_seconds)


def is_cancelled() -> bool:
    """Return whether the running task itself was cancelled. If not, only what it awaits was."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
