"""The outcome of an event at a handler: a frozen value that refers to no object of the handler.

Texts of errors are truncated, because Redis stores them, and contain no local variables. They do contain the
exception's message, so they belong in dead letters, and in a log line only as `workers.deliver.error_text`
masks them.
"""

import asyncio
import math
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from workers.signals import HandlerTimeout, Pause, Reject, Retry

FailureKind: TypeAlias = Literal["exception", "timeout", "cancelled", "exit"]

ERROR_BYTES: Final = 1024
TRACEBACK_BYTES: Final = 8192
# An operator reads a pause's reason on one line.
REASON_BYTES: Final = 256
# A shorter pause would be a busy loop; during a longer one nobody would notice that the target is available again.
_MIN_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 86_400.0
# As long as failures are kept. A retry after centuries would only take memory.
_MAX_RETRY_SECONDS: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Done:
    """The handler has the event; what it said of its target's `answer`, in few words, and in `detail`."""

    answer: str = ""
    detail: str = ""

    @property
    def text(self) -> str:
        """The answer and its detail in one text; "" if nothing is known of them."""
        return ": ".join(filter(None, (self.answer, self.detail)))


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised an exception. `error` is "Type: message", `traceback` begins with the handler's frames.

    `kind`: an "exception", its "timeout", "cancelled" (a CancelledError that was not ours) or "exit" (SystemExit).
    `cause` is the type and the line ("ValueError at orders.py:12"), which a log line may show as it is (I9).
    """

    error: str
    traceback: str
    kind: FailureKind
    cause: str


@dataclass(frozen=True, slots=True)
class InternalError(Failed):
    """This service failed with the event, not its handler: it is a dead letter at once, as each attempt would fail."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """The handler asked for another attempt after `after_seconds`; None: after the usual backoff."""

    after_seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The handler will never accept the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The handler's target is unavailable: its queue waits for `after_seconds`, and the event loses no attempt.

    By "memory": the event failed, and Redis has no room for the failure; it counts as not tried.
    """

    after_seconds: float
    reason: str
    by: Literal["handler", "memory"] = "handler"


@dataclass(frozen=True, slots=True)
class Split:
    """The event's batch failed as a whole, by `cause`: the handler is to be called with each event alone.

    If the handler of a batch asks for another attempt, no event caused that: each of them is RetryRequested.
    """

    cause: Failed | Rejected


Outcome: TypeAlias = Done | Failed | RetryRequested | Rejected | Paused | Split

DONE: Final = Done()


def from_exception(
    error: BaseException, *, hidden: frozenset[str] = frozenset()
) -> Failed | RetryRequested | Rejected | Paused:
    """Return the outcome of a call that raised `error`. The traceback leaves out frames of the files `hidden`."""
    if isinstance(error, Retry | Reject | Pause):
        try:
            return _from_signal(error)
        except Exception as broken:  # noqa: BLE001 # a signal may be wrong in any way: that is its author's error
            error = broken.with_traceback(error.__traceback__)
    kind: FailureKind = "exception"
    if isinstance(error, HandlerTimeout):
        kind = "timeout"
    elif isinstance(error, asyncio.CancelledError):
        kind = "cancelled"
    elif isinstance(error, SystemExit):
        kind = "exit"
    return Failed(*_describe(error, hidden), kind=kind, cause=_cause(error, hidden))


def internal_error(error: BaseException) -> InternalError:
    """Return the outcome of an event with which this service itself failed."""
    return InternalError(*_describe(error, frozenset()), kind="exception", cause=_cause(error, frozenset()))


def _describe(error: BaseException, hidden: frozenset[str]) -> tuple[str, str]:
    """Return the text and the traceback of an exception, each truncated. Raise nothing."""
    name = type(error).__name__
    try:
        # traceback's own texts: they survive an exception whose str() raises.
        found = traceback.TracebackException.from_exception(error)
        found.stack = traceback.StackSummary.from_list([frame for frame in found.stack if frame.filename not in hidden])
        text = "".join(found.format_exception_only()).strip()
        return _truncate(text, ERROR_BYTES), _truncate("".join(found.format()), TRACEBACK_BYTES, end=True)
    except Exception as exc:  # noqa: BLE001 # a chain of a thousand causes, no memory: the type has to be enough
        return name, f"{name}: no traceback, because formatting it raised {type(exc).__name__}"


def _cause(error: BaseException, hidden: frozenset[str]) -> str:
    cause = type(error).__name__
    frames = [frame for frame in traceback.walk_tb(error.__traceback__) if frame[0].f_code.co_filename not in hidden]
    if frames:
        frame, line = frames[-1]
        cause += f" at {Path(frame.f_code.co_filename).name}:{line}"
    return cause


def _from_signal(error: Retry | Reject | Pause) -> RetryRequested | Rejected | Paused:
    """Return what a signal says. Raise what the signal raises, and ValueError if its time is not a number."""
    if isinstance(error, Reject):
        return Rejected(_truncate(str(error), ERROR_BYTES))
    max_seconds = _MAX_RETRY_SECONDS if isinstance(error, Retry) else _MAX_PAUSE_SECONDS
    # Limited before it becomes a float: an int may be too large for one. NaN stays NaN.
    seconds = None if error.after_seconds is None else float(max(min(error.after_seconds, max_seconds), 0))
    if seconds is not None and math.isnan(seconds):
        raise ValueError(f"after_seconds must be a number of seconds, not {seconds!r}")
    if isinstance(error, Retry):
        return RetryRequested(seconds, _truncate(str(error), ERROR_BYTES))
    if seconds is None:
        raise ValueError("a pause needs a time")
    return Paused(max(seconds, _MIN_PAUSE_SECONDS), _truncate(str(error.reason or ""), REASON_BYTES))


def _truncate(text: str, max_bytes: int, *, end: bool = False) -> str:
    """Return the beginning or the end of `text`, at most `max_bytes` in UTF-8, without lone surrogates."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > max_bytes:
        mark = "…".encode()
        kept = max_bytes - len(mark)
        data = mark + data[-kept:] if end else data[:kept] + mark
    return data.decode("utf-8", "ignore")
