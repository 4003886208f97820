"""Exceptions that nothing caught: in a thread, in a task that nobody awaits, in a callback or a destructor.

Python prints some to standard error, with their messages, and keeps others until the process ends. Here each becomes
a line of the log, without its message (I9).
"""

import asyncio
import re
import sys
import threading
from types import TracebackType
from typing import Any, Final

from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS, RateLimitedLog
from shared.structured_log import get_logger

log = get_logger("callbacks.background")

_limited: Final = RateLimitedLog(log, interval_seconds=EXCEPTION_INTERVAL_SECONDS)
_MAX_CHARACTERS: Final = 60
# With the function that Python appends: "Thread-1 (send)".
_PLAIN_NAME: Final = re.compile(r"[\w.-]{1,40}(?: \(\w{1,40}\))?")
_MANY_DIGITS: Final = re.compile(r"(?:\d\D?){7}")


def install() -> None:
    """Log exceptions that end the process or a thread, or that cannot be raised where they happen."""
    sys.excepthook = _in_main
    threading.excepthook = _in_thread
    sys.unraisablehook = _unraisable


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Log exceptions that `loop` cannot raise to anyone, unless it has an exception handler already."""
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(_in_loop)


def _in_main(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(exc, Exception):  # Ctrl-C
        sys.__excepthook__(kind, exc, trace)
        return
    _limited.exception("uncaught", exc, where="main", name=type(exc).__qualname__)


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return  # as Python's own hook does: SystemExit is how a thread ends itself
    name = _shown_name(args.thread.name) if args.thread is not None else "unknown"
    _limited.exception("uncaught", args.exc_value, where="thread", name=name)


def _shown_name(name: str) -> str:
    """Return a thread's name; "other" for one that is not a plain word: a handler may have made it of an event (I9)."""
    return name if _PLAIN_NAME.fullmatch(name) and not _MANY_DIGITS.search(name) else "other"


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        _limited.exception("uncaught", args.exc_value, where="destructor", name=type(args.object).__qualname__)


def _in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # asyncio's text without its brackets: they show the arguments of a callback, which may be a body.
    what = str(context.get("message", "")).partition("(")[0][:_MAX_CHARACTERS].strip()
    exc = context.get("exception")
    if isinstance(exc, BaseException):
        _limited.exception("uncaught", exc, where="loop", name=what)
    else:
        log.error("uncaught", where="loop", name=what)
