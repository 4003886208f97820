"""Termination by a signal: SIGTERM and SIGHUP unwind the stack as Ctrl-C does, once."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from shared.errors import Terminated

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Result = TypeVar("_Result")


@contextmanager
def on_signal() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP raise Terminated in the main thread, within.

    The exit code is the shell's convention for that signal. Only the first signal does: a second one does not
    interrupt the unwinding.
    """

    def terminate(signum: int) -> None:
        raise Terminated(_exit_code(signum))

    before = _on_first(terminate)
    try:
        yield
    finally:
        _restore(before)


def run(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `main` within `on_signal`, as asyncio.run does; a signal cancels it, then Terminated is raised.

    Raised amid `main` it could be lost: aiohttp takes any exception while it reads an answer's body for a failure of
    that request.
    """
    received: list[int] = []

    async def cancellable() -> _Result:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()

        def cancel(signum: int) -> None:
            received.append(signum)
            loop.call_soon_threadsafe(task.cancel)  # which wakes the loop up, too

        before = _on_first(cancel)
        await asyncio.wait([task])
        if received:
            raise Terminated(_exit_code(received[0]))
        _restore(before)
        return task.result()

    # Not uvloop: it replaces the signal handlers, and does not restore them.
    return asyncio.run(cancellable())


def _exit_code(signum: int) -> int:
    return 128 + signum


def _on_first(act: Callable[[int], None]) -> dict[signal.Signals, Any]:
    """Call `act` with the first signal that comes, and ignore further ones. Return the handlers until now."""

    def act_once(signum: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        act(signum)

    return {number: signal.signal(number, act_once) for number in _SIGNALS}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def exit_zero_on_signal() -> None:
    """Have SIGTERM and Ctrl-C end this process with exit code 0, once uvicorn has drained.

    After draining, uvicorn raises the signal again for the handler that was installed before.
    """

    def exit_zero(_signum: int, _frame: object) -> None:
        raise Terminated(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, exit_zero)
