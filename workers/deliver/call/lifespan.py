"""A handler's lifespan in one worker process: opened before the first event, closed when the process stops.

An async lifespan runs in one task on the handler's own loop, from its first line to its last, as task groups and cancel
scopes require. Opening may take the handler's `timeout_seconds`; closing too, but at most CLOSE_SECONDS. What takes
longer is ended like a call (alarm or cancellation), and finally by the watchdog, which ends the process.

So a stop takes no longer than a supervisor allows, the longest time-out and 10 s: 1 s to notice it, the time-out of the
call in flight, 3 s for Redis if it is unavailable, 5 s here.
"""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final

from shared import uncaught
from shared.structured_log import get_logger
from workers.declaration import Handler
from workers.deliver.call import timeout
from workers.deliver.call.timeout import Alarm, Watchdog
from workers.deliver.error_text import outcome_text
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import Failed
from workers.signals import HandlerTimeout

log = get_logger("callbacks.worker")

CLOSE_SECONDS: Final = 5.0
_HIDDEN: Final = frozenset((__file__, timeout.__file__, contextlib.__file__))


class LifespanFailed(Exception):
    """A handler's lifespan could not be opened. `cause` is the error's type and its line, `error` its masked text."""

    def __init__(self, handler: str, cause: str, error: str | None) -> None:
        self.handler = handler
        self.cause = cause
        self.error = error
        text = f": {error}" if error else ""
        super().__init__(f"the lifespan of the handler {handler!r} could not be opened: {cause}{text}")


class Lifespan:
    """A handler's lifespan, open or closed. For the main thread only; `runner` has the handler's loop.

    If an async lifespan ends too early, for example because a task of its group failed, that is logged and `on_end` is
    called: the handler then lacks what the lifespan opened, until the process is started again.
    """

    def __init__(self, handler: Handler, runner: asyncio.Runner, *, on_end: Callable[[], None] | None = None) -> None:
        self._handler = handler
        self._runner = runner
        self._opened: AbstractContextManager[Any] | _LifespanTask | None = None
        self._on_end = on_end

    def open(self) -> None:
        """Enter the handler's lifespan, if it has one. Raise LifespanFailed if that fails."""
        if self._handler.lifespan is None:
            return
        seconds = self._handler.timeout_seconds
        with _watched(seconds):
            try:
                context = self._handler.lifespan()
                if isinstance(context, AbstractAsyncContextManager):
                    task = _LifespanTask(context, self._runner)
                    task.open(seconds)
                    task.on_early_end(self._on_early_end)
                    self._opened = task
                else:
                    with Alarm(seconds) as alarm:
                        alarm.call(lambda _: context.__enter__(), None)
                    self._opened = context
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                raise LifespanFailed(self._handler.name, *_cause(exc)) from exc

    def _on_early_end(self, exc: BaseException | None) -> None:
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]  # why the task group ended
        cause, text = ("it ended by itself", None) if exc is None else _cause(exc)
        log.error("handler_lifespan_ended", handler=self._handler.name, cause=cause, error=text)
        if self._on_end is not None:
            self._on_end()

    def close(self) -> None:
        """Leave the lifespan; an error is logged, and affects no event. May be called twice."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        seconds = min(self._handler.timeout_seconds, CLOSE_SECONDS)
        with _watched(seconds):
            try:
                if isinstance(opened, _LifespanTask):
                    opened.close(seconds)
                else:
                    with Alarm(seconds) as alarm:
                        alarm.call(lambda _: opened.__exit__(None, None, None), None)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # noqa: BLE001 # an author's code, like a handler's
                cause, text = _cause(exc)
                log.warning("handler_lifespan_close_failed", handler=self._handler.name, cause=cause, error=text)


class _LifespanTask:
    """An async lifespan in a task of its own, which waits from the end of opening until it is to close."""

    def __init__(self, context: AbstractAsyncContextManager[Any], runner: asyncio.Runner) -> None:
        self._context = context
        self._runner = runner
        self._closing = asyncio.Event()
        self._is_open = asyncio.Event()
        loop = runner.get_loop()
        uncaught.watch(loop)
        self._task = loop.create_task(self._live())

    async def _live(self) -> None:
        async with self._context:
            self._is_open.set()
            await self._closing.wait()

    def open(self, seconds: float) -> None:
        self._run(self._wait_until_open(), seconds)
        if not self._is_open.is_set():
            self._task.result()  # raises the error that prevented opening

    def on_early_end(self, ended: Callable[[BaseException | None], None]) -> None:
        """Call `ended` with the error if the task ends before it is to close."""

        def check(task: asyncio.Task[None]) -> None:
            if not self._closing.is_set():
                ended(asyncio.CancelledError() if task.cancelled() else task.exception())

        self._task.add_done_callback(check)

    def close(self, seconds: float) -> None:
        self._closing.set()
        self._run(asyncio.wait([self._task]), seconds)
        self._task.result()

    async def _wait_until_open(self) -> None:
        opened = asyncio.ensure_future(self._is_open.wait())
        try:
            await asyncio.wait([opened, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()

    def _run(self, waiting: Any, seconds: float) -> None:
        """Wait; once the time is over, cancel the task until it ends, and raise HandlerTimeout."""
        try:
            self._runner.run(self._bounded(waiting, seconds))
        except SystemExit:
            if not self._task.done():
                raise

    async def _bounded(self, waiting: Any, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, seconds)
            return
        while not self._task.done():  # as for a call: a task may swallow a cancellation
            self._task.cancel()
            await asyncio.wait([self._task], timeout=timeout.repeat_seconds(seconds))
        try:
            self._task.result()
        except BaseException as exc:  # noqa: BLE001 # its traceback shows where the lifespan hung
            raise HandlerTimeout(seconds).with_traceback(exc.__traceback__) from None
        raise HandlerTimeout(seconds)


@contextlib.contextmanager
def _watched(seconds: float) -> Any:
    watchdog = Watchdog(seconds)
    watchdog.arm()
    try:
        yield
    finally:
        watchdog.disarm()


def _cause(error: BaseException) -> tuple[str, str | None]:
    """Return the error's type with its line, and its masked text if it has one."""
    outcome = outcomes.from_exception(error, hidden=_HIDDEN)
    # A lifespan that raises Retry, Pause or Reject has failed as with any other error.
    cause = outcome.cause if isinstance(outcome, Failed) else type(error).__name__
    text = outcome_text(outcome, ())
    return cause, text or None
