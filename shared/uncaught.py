"""Exceptions that reach the end of a thread, of a task that nobody awaits, of a callback or a destructor.

Python prints the first kinds to standard error, with their messages, and keeps some to itself until the process ends.
Here each becomes one record of the log, without its message (I9).
"""

import asyncio
import sys
import threading
from typing import Any, Final

from shared.exception_log import ExceptionLog, log

_exceptions: Final = ExceptionLog()
_MOST_CHARACTERS: Final = 60


def install() -> None:
    """Log what ends a thread, and what cannot be raised where it happens. For the whole process."""
    threading.excepthook = _in_thread
    sys.unraisablehook = _unraisable


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Log what `loop` has nobody to raise it to, unless somebody else has asked for that."""
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(_in_loop)


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return  # as Python's own hook: this is how a thread ends itself
    name = args.thread.name if args.thread is not None else "unknown"
    _exceptions.write(f"action=uncaught where=thread name={name!r}", args.exc_value)


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        _exceptions.write(f"action=uncaught where=destructor name={type(args.object).__qualname__!r}", args.exc_value)


def _in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # asyncio's own words; in brackets it shows the arguments of a callback, which may be a body.
    what = str(context.get("message", "")).partition("(")[0][:_MOST_CHARACTERS].strip()
    exc = context.get("exception")
    if isinstance(exc, BaseException):
        _exceptions.write(f"action=uncaught where=loop name={what!r}", exc)
    else:
        log.error("action=uncaught where=loop name=%r", what)
