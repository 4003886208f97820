"""A log that cannot be flooded: one line for each kind of record per interval, with how often it happened.

What a sender can provoke thousands of times a second goes through here, and so does every exception that nobody
expected: the first of each kind has its traceback.
"""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from shared.structured_log import BoundLogger

EXCEPTION_INTERVAL_SECONDS: Final = 60.0
# Kinds are actions and places in the code, so there are few; the bound is for a mistake of ours.
MAX_KINDS: Final = 100


class LineCounter:
    """Says which lines are due: at most one of each kind in `interval_seconds`. Any thread may call it."""

    def __init__(self, *, interval_seconds: float, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._interval_seconds = interval_seconds
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._kinds: dict[tuple[object, ...], tuple[float, int]] = {}

    def count(self, kind: tuple[object, ...], number: int = 1) -> int:
        """Count `number` of `kind`. Return 0 if no line is due, else how many there were since the last line."""
        now_seconds = self._now_seconds()
        with self._lock:
            next_seconds, unwritten = self._kinds.get(kind, (now_seconds, 0))
            if now_seconds < next_seconds:
                self._kinds[kind] = (next_seconds, unwritten + number)
                return 0
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            self._kinds[kind] = (now_seconds + self._interval_seconds, 0)
        return unwritten + number


class RateLimitedLog:
    """Writes to `logger` at most one line of each kind in `interval_seconds`. Any thread may call it."""

    def __init__(
        self, logger: BoundLogger, *, interval_seconds: float, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._counter = LineCounter(interval_seconds=interval_seconds, now_seconds=now_seconds)

    def warning(self, action: str, kind: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Log an action. Two with equal fields `kind` are of one kind; `fields` are only of the one that is written."""
        kind = kind or {}
        count = self._counter.count((action, *kind.values()))
        if count:
            self._logger.warning(action, **kind, count=count, **fields)

    def exception(self, action: str, exc: BaseException, /, **kind: Any) -> None:
        """Log an action with the types and places of `exc`, without any message.

        Two are of one kind if their action, fields, type and innermost place are the same.
        """
        count = self._counter.count((action, *kind.values(), type(exc).__qualname__, _innermost(exc.__traceback__)))
        if count:
            self._logger.error(action, **kind, count=count, exc_info=exc)


def _innermost(trace: TracebackType | None) -> str:
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
