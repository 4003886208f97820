"""A handler's lifespan in one worker process: opened before its first event, left when the process stops.

An async one lives in one task on the handler's own loop, from its first line to its last, as task groups and cancel
scopes demand. Opening may take the handler's `timeout_seconds`, leaving too but CLOSE_SECONDS at most; what hangs
longer is ended as calls are (`alarm`, cancellation), and at last by `watchdog`, with the process.

A stop so stays in the time that a supervisor gives it, the longest time-out and 10 s: 1 s to notice it, the time-out
of the call under way, 3 s for Redis, if that is away, 5 s here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final

from shared import uncaught
from workers.declaration import Handler
from workers.deliver.call import timeout
from workers.deliver.call.timeout import Alarm
from workers.deliver.call.watchdog import Watchdog
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import Failed
from workers.signals import HandlerTimeout

log = logging.getLogger("callbacks.worker")

CLOSE_SECONDS: Final = 5.0
_HIDDEN: Final = frozenset((__file__, timeout.__file__, contextlib.__file__))


class LifespanFailed(Exception):
    """A handler's lifespan could not be opened. `cause` is the error's type and its place, all that a log may say."""

    def __init__(self, handler: str, cause: str) -> None:
        self.handler = handler
        self.cause = cause
        super().__init__(f"the lifespan of the handler {handler!r} could not be opened: {cause}")


class Lifespan:
    """What a handler's lifespan holds open. Only for the main thread; `runner` has the handler's loop.

    Should an async one end while it is to be open, as a task in its group failed, that is logged and `on_end` called:
    the handler then works without what it opened, until the process begins again.
    """

    def __init__(self, handler: Handler, runner: asyncio.Runner, *, on_end: Callable[[], None] | None = None) -> None:
        self._handler = handler
        self._runner = runner
        self._opened: AbstractContextManager[Any] | _LifespanTask | None = None
        self._on_end = on_end

    def open(self) -> None:
        """Enter the handler's lifespan, if it has one. Raises LifespanFailed."""
        if self._handler.lifespan is None:
            return
        seconds = self._handler.timeout_seconds
        with _watched(seconds):
            try:
                made = self._handler.lifespan()
                if isinstance(made, AbstractAsyncContextManager):
                    task = _LifespanTask(made, self._runner)
                    task.open(seconds)
                    task.on_early_end(self._on_early_end)
                    self._opened = task
                else:
                    with Alarm(seconds) as clock:
                        clock.call(lambda _: made.__enter__(), None)
                    self._opened = made
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                raise LifespanFailed(self._handler.name, _cause(exc)) from exc

    def _on_early_end(self, exc: BaseException | None) -> None:
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]  # what the task group was left for
        cause = "it ended by itself" if exc is None else _cause(exc)
        log.error("action=handler_lifespan_ended handler=%s cause=%s", self._handler.name, cause)
        if self._on_end is not None:
            self._on_end()

    def close(self) -> None:
        """Leave it; what goes wrong is logged, and harms nothing. May be called twice."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        seconds = min(self._handler.timeout_seconds, CLOSE_SECONDS)
        with _watched(seconds):
            try:
                if isinstance(opened, _LifespanTask):
                    opened.leave(seconds)
                else:
                    with Alarm(seconds) as clock:
                        clock.call(lambda _: opened.__exit__(None, None, None), None)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # noqa: BLE001 # an author's code, as around a handler's call
                log.warning("action=handler_lifespan_close_failed handler=%s cause=%s", self._handler.name, _cause(exc))


class _LifespanTask:
    """An async lifespan in a task of its own, which waits between its two ends."""

    def __init__(self, made: AbstractAsyncContextManager[Any], runner: asyncio.Runner) -> None:
        self._made = made
        self._runner = runner
        self._leaving = asyncio.Event()
        self._is_open = asyncio.Event()
        loop = runner.get_loop()
        uncaught.watch(loop)
        self._task = loop.create_task(self._live())

    async def _live(self) -> None:
        async with self._made:
            self._is_open.set()
            await self._leaving.wait()

    def open(self, seconds: float) -> None:
        self._run(self._opening(), seconds)
        if not self._is_open.is_set():
            self._task.result()  # raises what kept it from opening

    def on_early_end(self, ended: Callable[[BaseException | None], None]) -> None:
        """Call `ended` if the task ends before it is to be left, with what it raised."""

        def check(task: asyncio.Task[None]) -> None:
            if not self._leaving.is_set():
                ended(asyncio.CancelledError() if task.cancelled() else task.exception())

        self._task.add_done_callback(check)

    def leave(self, seconds: float) -> None:
        self._leaving.set()
        self._run(asyncio.wait([self._task]), seconds)
        self._task.result()

    async def _opening(self) -> None:
        opened = asyncio.ensure_future(self._is_open.wait())
        try:
            await asyncio.wait([opened, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()

    def _run(self, waiting: Any, seconds: float) -> None:
        """Wait; once the time is over cancel the task until it ends, and raise HandlerTimeout."""
        try:
            self._runner.run(self._bounded(waiting, seconds))
        except SystemExit:
            if not self._task.done():
                raise

    async def _bounded(self, waiting: Any, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, seconds)
            return
        while not self._task.done():  # as for a call: a task may swallow one cancellation, and not many
            self._task.cancel()
            await asyncio.wait([self._task], timeout=timeout.repeat_seconds(seconds))
        try:
            self._task.result()
        except BaseException as exc:  # noqa: BLE001 # where it hung is told by what ended it
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


def _cause(error: BaseException) -> str:
    outcome = outcomes.from_exception(error, hidden=_HIDDEN)
    # A lifespan that raises what a handler may: it opens no more for that.
    return outcome.cause if isinstance(outcome, Failed) else type(error).__name__
