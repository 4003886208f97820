"""What an answer of a target, or the lack of one, says in words, and what it means by the rules (`rules`).

A refused event becomes a dead letter with the answer's status and the beginning of its body. A pause is shown to
operators and logged, so `brief` carries neither body, nor path, nor query.
"""

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import httpcore

from workers.handlers.forward import rules
from workers.handlers.forward.rules import EventEffect, TargetEffect

# Of an answer's body, this much is kept.
MAX_BODY_BYTES: Final = 2048
MAX_PAUSE_SECONDS: Final = 3600.0
# How often a target that said that it is gone is asked again.
GONE_PAUSE_SECONDS: Final = 300.0

# What may happen to a request instead of an answer. ssl.SSLError and socket.gaierror are OSErrors; so is TimeoutError.
NETWORK_ERRORS: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)

# Ten digits are three hundred years, and no date has more than 40 characters; more would only cost time to read.
_SECONDS: Final = re.compile(r"[0-9]{1,10}")
_MAX_DATE_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Response:
    """What was heard of an answer: `body_start` is at most BODY_BYTES of its body."""

    status: int
    retry_after: str | None
    body_start: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The target has the event."""


@dataclass(frozen=True, slots=True)
class EventRefused:
    """The target will never take the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class TargetFailed:
    """The target could not take the event now; `asked_seconds` is the pause that it asked for.

    `is_refusal`: by what it answered it takes nothing, or not this event.
    """

    brief: str
    reason: str
    retry_after_seconds: float | None = None
    is_refusal: bool = False


SendResult: TypeAlias = Sent | EventRefused | TargetFailed


def interpret_response(answer: Response, *, now: datetime) -> SendResult:
    """Return what an answer means."""
    asked = None if answer.retry_after is None else parse_retry_after(answer.retry_after, now=now)
    rule = rules.find_rule(answer.status, has_retry_after=asked is not None)
    brief = f"answered {answer.status}"
    text = printable(answer.body_start)
    reason = f"{brief}: {text}" if text else brief
    if rule.event is EventEffect.DELIVERED:
        return Sent()
    if rule.event is EventEffect.DEAD_LETTER:
        return EventRefused(reason)
    if rule.target is TargetEffect.GONE:
        brief += ": it says that it is gone for good; correct its URL, or remove the target"
        return TargetFailed(brief, reason, GONE_PAUSE_SECONDS, is_refusal=True)
    return TargetFailed(
        brief,
        reason,
        asked if rule.target is TargetEffect.RETRY_AFTER else None,
        is_refusal=rule.event is EventEffect.REFUSED,
    )


def interpret_error(error: Exception) -> TargetFailed:
    """Tell what it means that there is no answer. Of what the target sent, nothing is quoted."""
    text = str(error)
    match error:
        case httpcore.RemoteProtocolError() if "disconnected" in text:
            brief = "closed the connection without an answer"
        case httpcore.ProtocolError():
            brief = "answered with something that is not HTTP"
        case httpcore.ConnectTimeout():
            brief = text or "could not be connected to in time"
        case httpcore.TimeoutException() | TimeoutError():
            brief = "did not answer in time"
        case httpcore.ConnectError():
            brief = f"could not be connected to: {text}"
        case httpcore.NetworkError():
            brief = "broke the connection"
        case _:
            brief = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'the connection failed'}"
    return TargetFailed(brief, brief)


def parse_retry_after(retry_after: str, *, now: datetime) -> float | None:
    """Read a Retry-After, in seconds or as an HTTP date (RFC 9110, 10.2.3); None if it is neither.

    The target may write anything: whatever cannot be read is as good as left out.
    """
    value = retry_after.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_PAUSE_SECONDS)
    if len(value) > _MAX_DATE_CHARACTERS:
        return None
    try:
        until = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a number beyond what a C int or long holds
        return None
    seconds = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), MAX_PAUSE_SECONDS)


def printable(data: bytes) -> str:
    """Give bytes of unknown origin as text that does nothing to a terminal."""
    text = data[:MAX_BODY_BYTES].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
