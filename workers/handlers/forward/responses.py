"""Describes a target's response, or a network error, in words, and applies the rules (`rules`) to it.

A refused event becomes a dead letter with the status and the start of the body. A pause is shown to operators and
logged, so `brief` contains no body, path or query.
"""

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import httpcore

from workers.handlers.forward import rules
from workers.handlers.forward.rules import EventEffect, TargetEffect

# How much of a response's body is kept.
MAX_BODY_BYTES: Final = 2048
MAX_PAUSE_SECONDS: Final = 3600.0
# How often a target that answered 410 (Gone) is tried.
GONE_PAUSE_SECONDS: Final = 300.0

# The errors of a request. ssl.SSLError, socket.gaierror and TimeoutError are OSErrors.
NETWORK_ERRORS: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)

# Ten digits are three hundred years, and a date has at most 40 characters. Longer values are not parsed.
_SECONDS: Final = re.compile(r"[0-9]{1,10}")
_MAX_DATE_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Response:
    """A response: `body_start` is the first MAX_BODY_BYTES of its body at most."""

    status: int
    retry_after: str | None
    body_start: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The target accepted the event: `answer` has the status, `detail` the start of the body."""

    answer: str
    detail: str


@dataclass(frozen=True, slots=True)
class EventRefused:
    """The target will never accept the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class TargetFailed:
    """The target could not accept the event now; `retry_after_seconds` is the pause that it asked for.

    `is_refusal` says that the response refuses this event, or every event.
    """

    brief: str
    reason: str
    retry_after_seconds: float | None = None
    is_refusal: bool = False


SendResult: TypeAlias = Sent | EventRefused | TargetFailed


def interpret_response(response: Response, *, now: datetime) -> SendResult:
    """Return what a response means."""
    seconds = None if response.retry_after is None else parse_retry_after(response.retry_after, now=now)
    rule = rules.find_rule(response.status, has_retry_after=seconds is not None)
    brief = f"answered {response.status}"
    text = printable(response.body_start)
    reason = f"{brief}: {text}" if text else brief
    if rule.event is EventEffect.DELIVERED:
        return Sent(brief, text)
    if rule.event is EventEffect.DEAD_LETTER:
        return EventRefused(reason)
    if rule.target is TargetEffect.GONE:
        brief += ": the target says that it is gone for good; correct its URL or remove the target"
        return TargetFailed(brief, reason, GONE_PAUSE_SECONDS, is_refusal=True)
    return TargetFailed(
        brief,
        reason,
        seconds if rule.target is TargetEffect.RETRY_AFTER else None,
        is_refusal=rule.event is EventEffect.REFUSED,
    )


def interpret_error(error: Exception) -> TargetFailed:
    """Return what a network error means. Nothing that the target sent is quoted."""
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
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date); None if it is neither."""
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
    """Return bytes of unknown origin as printable text, which cannot control a terminal."""
    text = data[:MAX_BODY_BYTES].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
