"""One handler is called with events; each event gets an outcome.

One of the two declared boundaries where everything is caught: whatever a handler raises becomes the outcome of
the event that it had, and of no other event. Only Ctrl-C passes through, outside a worker. Knows nothing of queues,
retries or Redis. Opening a Caller enters the handler's lifespan (see `lifespan`), closing it leaves the lifespan.
"""

import asyncio
import contextlib
import inspect
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from shared import log_context, uncaught
from shared.events import Event
from shared.metrics import CALL, CALL_BUCKETS, Metrics
from workers.declaration import Handler
from workers.deliver.call import spans as call_spans
from workers.deliver.call import timeout
from workers.deliver.call.lifespan import Lifespan
from workers.deliver.call.spans import CallSpans
from workers.deliver.call.timeout import Alarm
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import DONE, Done, Failed, Outcome, Rejected, Split
from workers.signals import Delivered, HandlerTimeout, Pause, Reject, Retry

# Our own frames around each handler's: they are left out of its tracebacks.
_HIDDEN: Final = frozenset((__file__, timeout.__file__, call_spans.__file__))
# How long an event that waits behind a slow call may wait before free slots are filled.
_PREFETCH_CHECK_SECONDS: Final = 0.025


def _never() -> bool:
    return False


class Caller:
    """Calls one handler, as long as a worker process lives. For the main thread only.

    An async handler keeps one event loop all that time, so that its connections survive from batch to batch. The
    loop runs only while `call` waits for calls to finish. `spans` records the calls, `metrics` how long each takes.
    `on_lifespan_end` is called if the lifespan ends too early.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        spans: CallSpans | None = None,
        on_lifespan_end: Callable[[], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.handler = handler
        self._function = handler.function if spans is None else spans.wrap(handler.function)
        self._runner = asyncio.Runner()
        self._lifespan = Lifespan(handler, self._runner, on_end=on_lifespan_end)
        # Calls that are still running although their time is over.
        self._overdue: set[asyncio.Task[Outcome]] = set()
        self._call_seconds: float | None = None
        # Each call that ended: of a batch handler one for all of its events.
        self._durations = (metrics or Metrics()).histogram((CALL, handler.name), CALL_BUCKETS)
        self._raises_keyboard_interrupt = True

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Enter the handler's lifespan. Raise LifespanFailed if that fails; then there is nothing to close."""
        # A worker has a handler of its own for SIGINT, so there a KeyboardInterrupt is the handler's own error.
        self._raises_keyboard_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try:
            self._lifespan.open()
        except BaseException:
            self._runner.close()
            raise

    def close(self) -> None:
        """Close the lifespan, cancel what the handler left running, and close its loop. May be called twice."""
        try:
            self._lifespan.close()
        finally:
            self._runner.close()

    @property
    def can_prefetch(self) -> bool:
        """Whether `call` asks for more events: only if several calls may be in flight."""
        return self.handler.is_async and not self.handler.batch and self.handler.concurrency > 1

    def pop_call_seconds(self) -> float | None:
        """Return how long the call took whose outcome `call` yielded last; None if that was asked before."""
        seconds, self._call_seconds = self._call_seconds, None
        return seconds

    def call(
        self,
        events: Sequence[Event],
        *,
        singly: bool = False,
        stop: Callable[[], bool] = _never,
        more: Callable[[int], Sequence[Event]] | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Call the handler with `events`; yield (index, outcome) for each as soon as it is known.

        Calls start in the order given; concurrent calls end in any order. A batch handler gets one list. If that call
        fails, the outcome of each event is Split, unless the list held one event; if it asks for a retry or a pause,
        that is the outcome of each. With `singly` a batch handler gets lists of one event each.

        `stop` is asked before each call. Once it is true, no call starts; the calls in flight are waited for and
        yielded, and the iterator ends.

        If several calls may be in flight (`can_prefetch`), `more` is called with the number of free slots while at
        least one call is in flight, and returns further events to call. It is not called while a call is running over
        its time: a run that never ended would keep that call for good.

        Closing the iterator early cancels the calls in flight, waits for their end and drops their outcomes: their
        events have to be called again.
        """
        if not events:
            return
        handler = self.handler
        if handler.batch and not singly:
            if not stop():
                outcome = self.call_batch(events)
                for index in range(len(events)):
                    yield index, outcome
            return
        arguments: Sequence[Any] = [[event] for event in events] if handler.batch else events
        if handler.is_async:
            yield from self._call_concurrently(arguments, stop, more if self.can_prefetch else None)
            return
        with Alarm(handler.timeout_seconds) as alarm:
            for index, argument in enumerate(arguments):
                if stop():
                    return
                yield index, self._call_sync(alarm, argument)

    def call_batch(self, events: Sequence[Event]) -> Outcome:
        """Call a batch handler with one list of all the events, at least one; return the outcome that they share."""
        batch = list(events)  # the handler may change its list
        if self.handler.is_async:
            ((_, outcome),) = self._call_concurrently([batch], _never, None)
        else:
            with Alarm(self.handler.timeout_seconds) as alarm:
                outcome = self._call_sync(alarm, batch)
        if len(events) > 1 and isinstance(outcome, Failed | Rejected):
            return Split(outcome)
        return outcome

    def _is_keyboard_interrupt(self, exc: BaseException) -> bool:
        return isinstance(exc, KeyboardInterrupt) and self._raises_keyboard_interrupt

    def _call_sync(self, alarm: Alarm, argument: Any) -> Outcome:
        context = log_context.call.set((self.handler.name, None if self.handler.batch else argument.id))
        started_at = time.perf_counter()
        try:
            returned = alarm.call(self._function, argument)
        except BaseException as exc:
            if self._is_keyboard_interrupt(exc):
                raise
            # The boundary: a handler's error is the outcome of its event.
            return outcomes.from_exception(exc, hidden=_HIDDEN)
        finally:
            self._call_seconds = time.perf_counter() - started_at
            self._durations.observe(self._call_seconds)
            log_context.call.reset(context)
        return self._outcome_of_return(returned)

    def _call_concurrently(
        self, arguments: Sequence[Any], stop: Callable[[], bool], more: Callable[[int], Sequence[Event]] | None
    ) -> Iterator[tuple[int, Outcome]]:
        loop = self._loop()
        waiting = deque(enumerate(arguments))
        number = len(waiting)
        # Not before the first calls have started.
        prefetch_at = loop.time() + _PREFETCH_CHECK_SECONDS
        is_due = False
        running: dict[asyncio.Task[Outcome], tuple[int, float]] = {}
        ended: list[tuple[asyncio.Task[Outcome], float]] = []

        # asyncio.wait visits each task before and after: with 32 in flight that takes longer than many a call.
        def end(task: asyncio.Task[Outcome]) -> None:
            if task in running:
                ended.append((task, loop.time()))
                loop.stop()

        def prefetch() -> None:
            nonlocal is_due
            is_due = True
            loop.stop()

        try:
            while True:
                while can_start := len(running) < self.handler.concurrency and not stop():
                    if waiting:
                        index, argument = waiting.popleft()
                        # A task for each call: what the call does to its task and context ends with it.
                        task = loop.create_task(self._call_async(argument))
                        task.add_done_callback(end)
                        running[task] = index, loop.time()
                    elif more is not None and running and not self._overdue and loop.time() >= prefetch_at:
                        waiting.extend(enumerate(more(self.handler.concurrency - len(running)), start=number))
                        number += len(waiting)
                        prefetch_at = loop.time() + _PREFETCH_CHECK_SECONDS
                    else:
                        break
                if not running:
                    return
                is_due = False
                timer = (
                    loop.call_at(prefetch_at, prefetch)
                    if can_start and more is not None and not self._overdue
                    else None
                )
                try:
                    while not ended and not is_due:
                        # Raised in a task that the handler started. Code that awaits that task gets it too.
                        with contextlib.suppress(SystemExit):
                            loop.run_forever()
                finally:
                    if timer is not None:
                        timer.cancel()  # it would stop the loop in its next use
                for index, outcome, seconds in _take_finished(running, ended):
                    self._call_seconds = seconds
                    self._durations.observe(seconds)
                    yield index, outcome
        finally:
            left = list(running)
            running.clear()  # so that the end of these calls does not stop the loop
            if left:
                self._runner.run(_cancel_all(left))

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._runner.get_loop()
        uncaught.watch(loop)
        return loop

    async def _call_async(self, argument: Any) -> Outcome:
        log_context.call.set((self.handler.name, None if self.handler.batch else argument.id))  # it ends with the task
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        timeout_seconds = self.handler.timeout_seconds
        expired = False
        timer: asyncio.TimerHandle

        # Not asyncio.timeout: it cancels once, and a handler may swallow that.
        def expire() -> None:
            nonlocal expired, timer
            expired = True
            if task is not None:
                self._overdue.add(task)
                task.cancel()
            timer = loop.call_later(timeout.repeat_seconds(timeout_seconds), expire)

        timer = loop.call_later(timeout_seconds, expire)
        try:
            returned = await self._function(argument)
        except asyncio.CancelledError as exc:
            error = HandlerTimeout(timeout_seconds).with_traceback(exc.__traceback__) if expired else exc
            return outcomes.from_exception(error, hidden=_HIDDEN)
        except BaseException as exc:
            if self._is_keyboard_interrupt(exc):
                raise
            return outcomes.from_exception(exc, hidden=_HIDDEN)
        finally:
            timer.cancel()
            self._overdue.discard(task)
        return self._outcome_of_return(returned)

    def _outcome_of_return(self, value: object) -> Outcome:
        if value is None:
            return DONE
        if isinstance(value, Delivered):
            return Done(value.answer, value.detail)
        if isinstance(value, Retry | Pause | Reject):
            return outcomes.from_exception(value, hidden=_HIDDEN)
        if not inspect.isawaitable(value) and not inspect.isgenerator(value) and not inspect.isasyncgen(value):
            return DONE
        # A wrapper around an `async def`, or a forgotten `await`: nothing has run, so the event is not done.
        if inspect.iscoroutine(value):
            value.close()
        problem = f"{self.handler.location} returned a {type(value).__name__}, which is never run; "
        return outcomes.from_exception(
            TypeError(f"{problem}a handler must be a plain def or async def"), hidden=_HIDDEN
        )


def _take_finished(
    running: dict[asyncio.Task[Outcome], tuple[int, float]], ended: list[tuple[asyncio.Task[Outcome], float]]
) -> list[tuple[int, Outcome, float]]:
    """Return the index and the outcome of each call that ended, and how many seconds it took; empty `ended`."""
    finished = []
    for task, ended_at in ended:
        index, started_at = running.pop(task)
        finished.append((index, _result(task), ended_at - started_at))
    ended.clear()
    # Successes first: they are only recorded, while a failure is settled at once, which takes time.
    finished.sort(key=lambda known: (not isinstance(known[1], Done), known[0]))
    return finished


def _result(task: asyncio.Task[Outcome]) -> Outcome:
    try:
        return task.result()
    except Exception as exc:  # noqa: BLE001 # our own error around one call must not cancel the others
        return outcomes.internal_error(exc)


async def _cancel_all(left: Sequence[asyncio.Task[Outcome]]) -> None:
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
