"""Calling one handler with events, and telling for each what became of it.

One of the two declared boundaries where everything is caught: whatever a handler raises becomes the outcome of
the event that it had, and of no other; Ctrl-C alone goes through, if heeded. It knows nothing of queues, retries or
Redis. A handler's lifespan (`lifespans`) is entered where a Caller is opened, and left where it is closed.
"""

import asyncio
import contextlib
import inspect
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from shared import uncaught
from shared.events import Event
from workers.declaration import Handler
from workers.deliver.call import spans as call_spans
from workers.deliver.call import timeout
from workers.deliver.call.lifespan import Lifespan
from workers.deliver.call.spans import CallSpans
from workers.deliver.call.timeout import Alarm
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import DONE, Done, Failed, Outcome, Rejected, Split
from workers.signals import HandlerTimeout, Pause, Reject, Retry

# The frames of ours that stand around every handler's.
_HIDDEN: Final = frozenset((__file__, timeout.__file__, call_spans.__file__))
# How long whoever comes after a slow call may have to wait until somebody looks.
_PREFETCH_CHECK_SECONDS: Final = 0.025


def _never() -> bool:
    return False


class Caller:
    """Calls one handler, for as long as a worker process lives; to be used in its main thread.

    An async handler keeps one event loop all that time, so that its connections survive from batch to batch. The
    loop runs only while `call` waits for calls to finish. `spans` records its calls. `on_lifespan_end` is called should
    the lifespan end before its time.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        spans: CallSpans | None = None,
        on_lifespan_end: Callable[[], None] | None = None,
    ) -> None:
        self.handler = handler
        self._function = handler.function if spans is None else spans.wrap(handler.function)
        self._runner = asyncio.Runner()
        self._lifespan = Lifespan(handler, self._runner, on_end=on_lifespan_end)
        # The calls that go on although their time is over.
        self._overdue: set[asyncio.Task[Outcome]] = set()
        self._raises_keyboard_interrupt = True

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Enter the handler's lifespan. Raises LifespanFailed if that fails; then there is nothing to close."""
        # A worker has a handler of its own for SIGINT, so there a KeyboardInterrupt is the handler's own error.
        self._raises_keyboard_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try:
            self._lifespan.open()
        except BaseException:
            self._runner.close()
            raise

    def close(self) -> None:
        """Leave the lifespan, cancel what the handler left running on its loop, and close that. May be called twice."""
        try:
            self._lifespan.close()
        finally:
            self._runner.close()

    @property
    def can_prefetch(self) -> bool:
        """Whether `call` asks for more: only where several calls may be under way."""
        return self.handler.is_async and not self.handler.batch and self.handler.concurrency > 1

    def call(
        self,
        events: Sequence[Event],
        *,
        singly: bool = False,
        stop: Callable[[], bool] = _never,
        more: Callable[[int], Sequence[Event]] | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Call the handler with `events`, and give (index, outcome) for each as soon as it is known.

        In the order given, except that concurrent calls start in it and end as they may. A batch handler gets one
        list, and if that fails every event's outcome is Apart, unless it was the only one; if it asks for another
        attempt or a pause, that. With `singly` it gets lists of one event each.

        `stop` is asked before each call: once it is true no call starts, those under way are waited for and
        given, and the iterator ends. Where several calls may be under way (`can_prefetch`), `more` is asked for further
        events while some are and others could begin, and told how many of these, so that a slow one keeps none waiting;
        not while a call goes on although its time is over, as a run that never ended would keep it for ever. Closing
        the iterator early cancels the calls under way, waits for their end and drops their outcomes, so their events
        have to come again.
        """
        handler = self.handler
        if handler.batch and not singly:
            if events and not stop():
                yield from self._call_batch(events)
            return
        arguments: Sequence[Any] = [[event] for event in events] if handler.batch else events
        if handler.is_async:
            yield from self._call_concurrently(arguments, stop, more if self.can_prefetch else None)
            return
        with Alarm(handler.timeout_seconds) as clock:
            for index, argument in enumerate(arguments):
                if stop():
                    return
                yield index, self._call_sync(clock, argument)

    def _call_batch(self, events: Sequence[Event]) -> Iterator[tuple[int, Outcome]]:
        batch = list(events)  # the handler's own: what it does to the list is not ours
        if self.handler.is_async:
            ((_, outcome),) = self._call_concurrently([batch], _never, None)
        else:
            with Alarm(self.handler.timeout_seconds) as clock:
                outcome = self._call_sync(clock, batch)
        if len(events) > 1 and isinstance(outcome, Failed | Rejected):
            outcome = Split(outcome)
        for index in range(len(events)):
            yield index, outcome

    def _is_keyboard_interrupt(self, exc: BaseException) -> bool:
        return isinstance(exc, KeyboardInterrupt) and self._raises_keyboard_interrupt

    def _call_sync(self, clock: Alarm, argument: Any) -> Outcome:
        try:
            returned = clock.call(self._function, argument)
        except BaseException as exc:
            if self._is_keyboard_interrupt(exc):
                raise
            # The boundary: a handler's error is its event's outcome.
            return outcomes.from_exception(exc, hidden=_HIDDEN)
        return self._outcome_of_return(returned)

    def _call_concurrently(
        self, arguments: Sequence[Any], stop: Callable[[], bool], more: Callable[[int], Sequence[Event]] | None
    ) -> Iterator[tuple[int, Outcome]]:
        loop = self._loop()
        waiting = deque(enumerate(arguments))
        number = len(waiting)
        # Not before the first calls have begun.
        ask_at = loop.time() + _PREFETCH_CHECK_SECONDS
        is_due = False
        running: dict[asyncio.Task[Outcome], int] = {}
        ended: list[asyncio.Task[Outcome]] = []

        # asyncio.wait looks at each task before and after: with 32 under way that takes longer than many a call.
        def end(task: asyncio.Task[Outcome]) -> None:
            if task in running:
                ended.append(task)
                loop.stop()

        def ask() -> None:
            nonlocal is_due
            is_due = True
            loop.stop()

        try:
            while True:
                while may_begin := len(running) < self.handler.concurrency and not stop():
                    if waiting:
                        index, argument = waiting.popleft()
                        # A task for each: what a call does to its task and context ends with it.
                        task = loop.create_task(self._call_async(argument))
                        task.add_done_callback(end)
                        running[task] = index
                    elif more is not None and running and not self._overdue and loop.time() >= ask_at:
                        waiting.extend(enumerate(more(self.handler.concurrency - len(running)), start=number))
                        number += len(waiting)
                        ask_at = loop.time() + _PREFETCH_CHECK_SECONDS
                    else:
                        break
                if not running:
                    return
                is_due = False
                timer = loop.call_at(ask_at, ask) if may_begin and more is not None and not self._overdue else None
                try:
                    while not ended and not is_due:
                        # Of a task that a handler started: asyncio lets it through. Whoever awaits that task hears.
                        with contextlib.suppress(SystemExit):
                            loop.run_forever()
                finally:
                    if timer is not None:
                        timer.cancel()  # it would stop the loop under whoever uses that next
                finished = [(running.pop(task), _result(task)) for task in ended]
                ended.clear()
                # What is done is told first: to note it takes no time, to settle a failure does.
                finished.sort(key=lambda known: (not isinstance(known[1], Done), known[0]))
                yield from finished
        finally:
            left = list(running)
            running.clear()  # so that the end of these stops the loop no more
            if left:
                self._runner.run(_cancel_all(left))

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._runner.get_loop()
        uncaught.watch(loop)
        return loop

    async def _call_async(self, argument: Any) -> Outcome:
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
        if isinstance(value, Retry | Pause | Reject):
            return outcomes.from_exception(value, hidden=_HIDDEN)
        if not inspect.isawaitable(value) and not inspect.isgenerator(value) and not inspect.isasyncgen(value):
            return DONE
        # A wrapper around an `async def`, or a forgotten `await`: nothing has run, so nothing is done.
        if inspect.iscoroutine(value):
            value.close()
        return outcomes.from_exception(
            TypeError(f"{self.handler.location} returned a {type(value).__name__} that nobody runs"), hidden=_HIDDEN
        )


def _result(task: asyncio.Task[Outcome]) -> Outcome:
    try:
        return task.result()
    except Exception as exc:  # noqa: BLE001 # an error of ours around one call must not break off the others
        return outcomes.internal_error(exc)


async def _cancel_all(left: Sequence[asyncio.Task[Outcome]]) -> None:
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
