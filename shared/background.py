"""Background work that never ends in silence (I10): the loops that run beside a process's main work.

Each is begun here. An exception that nobody foresaw is logged, the first time with its traceback, and the loop begins
again after a pause that grows to MAX_PAUSE_SECONDS. One that keeps failing is in `failing`: the web process and
the operators' page show it in /readyz, every process tells it with its metrics, and `callbacks check` names it.

Every place of the product that begins a task, a thread or a pool of threads, and what becomes of its exceptions:

    ingest.app
        task: the durability watch and the group commit: begun again
    ingest.spool.store
        task: the drain: begun again
    ingest.spool.thread
        executor: the spool's disk: raised to who waits, logged if nobody does any more
    ingest.app
        to_thread: the end of metrics and traces: awaited
    ingest.protocol
        call_later: the time limit of a connection: `shared.uncaught`
    shared.metrics_push
        thread, loop: the metrics push: goes on with its next round
    shared.background
        create_task, Thread: what this module begins
    shared.tracer
        Thread: the last export of spans: `shared.uncaught`
    callbacks.ops.app
        to_thread: the end of the actions: awaited
    callbacks.ops.access.revoked_sessions
        to_thread: a question to Redis: raised in its request
    callbacks.ops.pages.live_feed
        task: the listener to live events: begun again
    callbacks.ops.pages.event_streams
        ensure_future: one page that stays open: raised in its request
    callbacks.ops.pages.bulk_actions
        executor: an operator's actions: logged, and noted as failed
    callbacks.ops.status.single_flight
        to_thread: one question to Redis: raised to all who wait
    workers.process
        Thread: the lifeline to the supervisor: whatever ends it ends the process
    workers.expand.expansion
        executor: the commit that runs while the next is made ready: raised in the run
    workers.runtime.maintenance
        loop: each task of maintenance: goes on, and so do the others
    workers.runtime.supervisor
        loop: what maintenance as a whole may raise: goes on
    workers.deliver.call.caller
        create_task, call_later, call_at: a handler's calls: each one's outcome
    workers.deliver.call.lifespan
        create_task, ensure_future: a handler's lifespan: logged, and the process begun again
    workers.handlers.forward.connection
        create_task: the end of a broken connection: `shared.uncaught`
    workers.handlers.forward.write_lock
        call_later: the end of a turn that lasts too long: `shared.uncaught`
    workers.handlers.jsonl.gzip_worker
        Thread: gzip of closed files: goes on with its next round
    callbacks.simulator.gateway
        create_task: the simulator's senders: raised to who started it
"""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from shared.exception_log import ExceptionLog, log
from shared.tracebacks import type_name

FIRST_PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 10.0
# What failed and has run for so long since then is well again.
HEALTHY_AFTER_SECONDS: Final = 10.0
# Once may be chance, and is over when it is logged.
_KEEPS_FAILING: Final = 2


class Loop:
    """How one loop goes. It is told by whoever runs it; any thread may ask."""

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
        self._exceptions = ExceptionLog(now_seconds=now_seconds)
        self._failures = 0
        self._error = ""
        self._well_at_seconds = 0.0

    @property
    def error(self) -> str | None:
        """The type of what it keeps failing with; None while it is well."""
        is_failing = self._failures >= _KEEPS_FAILING and self._now_seconds() < self._well_at_seconds
        return self._error if is_failing else None

    def failed(self, exc: BaseException) -> float:
        """Log what ended a round, or the loop; return how many seconds to wait before the next."""
        now_seconds = self._now_seconds()
        if now_seconds >= self._well_at_seconds:
            self._failures = 0
        self._failures += 1
        # 2**16 is far beyond the longest, and no float overflows.
        pause_seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 16), self._max_pause_seconds)
        self._error = type_name(exc)
        self._well_at_seconds = now_seconds + pause_seconds + HEALTHY_AFTER_SECONDS
        self._exceptions.write(f"action=loop_failed loop={self.name}", exc)
        return pause_seconds

    def succeeded(self) -> None:
        """Note that a round went well."""
        if self._failures:
            log.warning("action=loop_recovered loop=%s failures=%d", self.name, self._failures)
        self._failures = 0

    def attempt(self, step: Callable[[], object], *, reraise: tuple[type[Exception], ...] = ()) -> float:
        """Do one round; return 0, or how many seconds to wait after a failure. Raises what is of a `reraise` type."""
        try:
            step()
        except reraise:
            raise
        except Exception as exc:  # noqa: BLE001 # a loop outlives what nobody foresaw
            pause_seconds = self.failed(exc)
            self._well_at_seconds = math.inf  # the next round that goes well says so
            return pause_seconds
        self.succeeded()
        return 0.0


class Background:
    """The loops of one process."""

    def __init__(self) -> None:
        self._loops: dict[str, Loop] = {}
        self.is_ending = False

    def stop_restarting(self) -> None:
        """Begin no task again that fails from now on: the process stops, and waits for those that end by themselves."""
        self.is_ending = True

    def loop(self, name: str, *, max_pause_seconds: float = MAX_PAUSE_SECONDS) -> Loop:
        """Return the loop of that name; whoever asks runs it, and says how it goes."""
        return self._loops.setdefault(name, Loop(name, max_pause_seconds=max_pause_seconds))

    def start_task(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        max_pause_seconds: float = MAX_PAUSE_SECONDS,
        on_failure: Callable[[], None] | None = None,
    ) -> "asyncio.Task[None]":
        """Start a task that calls `run` again whenever that raises; it ends when `run` returns or it is cancelled.

        `on_failure` is called each time, before the pause; it must not raise.
        """
        loop = self.loop(name, max_pause_seconds=max_pause_seconds)
        return asyncio.create_task(self._keep_running(loop, run, on_failure), name=name)

    def make_thread(
        self, name: str, step: Callable[[], object], *, every_seconds: float, ending: threading.Event
    ) -> threading.Thread:
        """Make a thread, to be started, that calls `step` every so many seconds until `ending` is set."""
        loop = self.loop(name)

        def rounds() -> None:
            pause_seconds = every_seconds
            while not ending.wait(pause_seconds):
                pause_seconds = max(every_seconds, loop.attempt(step))

        return threading.Thread(target=rounds, name=name, daemon=True)

    def failing(self) -> dict[str, str]:
        """Return the loops that keep failing, by name, with the type of what they raise. Any thread may ask."""
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
            except Exception as exc:  # noqa: BLE001 # a loop outlives what nobody foresaw
                pause_seconds = loop.failed(exc)
            else:
                return
            if on_failure is not None:
                on_failure()
            if self.is_ending:
                return
            await asyncio.sleep(pause_seconds)


def is_cancelled() -> bool:
    """Return whether somebody cancelled the task that runs now; if not, what it awaits was cancelled by another."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
