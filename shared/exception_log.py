"""A log of exceptions that nobody foresaw: the first of each kind with its traceback, then a line a minute at most."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeAlias

from shared.tracebacks import format_redacted

EVERY_SECONDS: Final = 60.0
# Kinds are places in the code, so there are few; a bound all the same, as nothing here may grow without one.
_MOST_KINDS: Final = 100

_Kind: TypeAlias = tuple[str, str, str]

log = logging.getLogger("callbacks.background")


class ExceptionLog:
    """Writes one record for each kind of exception in `EVERY_SECONDS`, from whichever thread it comes."""

    def __init__(self, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._kinds: dict[_Kind, tuple[float, int]] = {}

    def write(self, action: str, exc: BaseException) -> None:
        """Write `action` (`action=… key=value …`), how many there were of this kind since the last line, and places.

        Two are of one kind if their action, type and innermost place are the same.
        """
        kind = (action, type(exc).__qualname__, _innermost(exc.__traceback__))
        now_seconds = self._now_seconds()
        with self._lock:
            next_seconds, unwritten = self._kinds.get(kind, (now_seconds, 0))
            if now_seconds < next_seconds:
                self._kinds[kind] = (next_seconds, unwritten + 1)
                return
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            self._kinds[kind] = (now_seconds + EVERY_SECONDS, 0)
        log.error("%s count=%d %s", action, unwritten + 1, format_redacted(exc))


def _innermost(trace: TracebackType | None) -> str:
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
