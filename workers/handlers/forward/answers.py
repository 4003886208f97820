"""What an answer of a target, or the lack of one, means for the event. The one place where that is decided.

    2xx                          taken
    429, 503 with Retry-After    the whole service asks for a pause, so the queue makes one, of an hour at most
    408, 429, 5xx                trouble: the event comes again
    3xx                          refused: a redirect is not followed, as it would take the event to who knows where
    other 4xx                    refused: the same request would be answered alike
    1xx, 600 and more, no HTTP   trouble, as are a connection that fails, bad TLS and an answer that does not come

A refused event is set aside with the answer's status and the beginning of its body. A pause is shown to operators and
logged, so `brief` carries neither body, nor path, nor query.
"""

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import httpcore

# Of an answer's body, this much is kept.
BODY_BYTES: Final = 2048
LONGEST_PAUSE_SECONDS: Final = 3600.0

# What may happen to a request instead of an answer. ssl.SSLError and socket.gaierror are OSErrors; so is TimeoutError.
FAILURES: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)

_REQUEST_TIMEOUT: Final = 408
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
# Ten digits are three hundred years, and no date has more than 40 characters; more would only cost time to read.
_SECONDS: Final = re.compile(r"[0-9]{1,10}")
_MOST_DATE_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard of an answer: `beginning` is at most BODY_BYTES of its body."""

    status: int
    retry_after: str | None
    beginning: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """The target has the event."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The target will never take the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """The target could not take the event now; `asked_seconds` is the pause that it asked for."""

    brief: str
    reason: str
    asked_seconds: float | None = None


Verdict: TypeAlias = Taken | Refused | Trouble


def judged(answer: Answer, *, now: datetime) -> Verdict:
    """Tell what an answer means."""
    if 200 <= answer.status <= 299:  # noqa: PLR2004 # as RFC 9110 counts them
        return Taken()
    brief = f"answered {answer.status}"
    text = readable(answer.beginning)
    reason = f"{brief}: {text}" if text else brief
    if 300 <= answer.status <= 499 and answer.status not in (_REQUEST_TIMEOUT, _TOO_MANY):  # noqa: PLR2004
        return Refused(reason)
    asked = answer.retry_after if answer.status in (_TOO_MANY, _UNAVAILABLE) else None
    return Trouble(brief, reason, None if asked is None else pause_seconds(asked, now=now))


def failed(error: Exception) -> Trouble:
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
    return Trouble(brief, brief)


def pause_seconds(retry_after: str, *, now: datetime) -> float | None:
    """Read a Retry-After, in seconds or as an HTTP date (RFC 9110, 10.2.3); None if it is neither.

    The target may write anything: whatever cannot be read is as good as left out.
    """
    value = retry_after.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), LONGEST_PAUSE_SECONDS)
    if len(value) > _MOST_DATE_CHARACTERS:
        return None
    try:
        until = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a number beyond what a C int or long holds
        return None
    seconds = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)


def readable(data: bytes) -> str:
    """Give bytes of unknown origin as text that does nothing to a terminal."""
    text = data[:BODY_BYTES].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
