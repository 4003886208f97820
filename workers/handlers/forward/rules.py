"""What a response means for the event and for the target: the only place where that is decided.

A response that refuses this one event makes it a dead letter at once. A response that every event would get (wrong URL,
wrong key, an ingress without a service) concerns the target: the event is retried, and becomes a dead letter only if it
is refused while the target accepts others (`refusals`). The first matching rule applies. docs/built-in-handlers.md
has the same table.
"""

from collections.abc import Container
from dataclasses import dataclass
from enum import Enum
from typing import Final


class EventEffect(Enum):
    """What becomes of the event."""

    DELIVERED = "is delivered"
    DEAD_LETTER = "is a dead letter at once"
    RETRIED = "is tried again, 24 times in all"
    REFUSED = "is tried again; refused four times over 90 seconds while others are accepted, it is a dead letter"
    WAITS = "waits; no attempt is spent"


class TargetEffect(Enum):
    """What it says about the target."""

    HEALTHY = "is well"
    FAILING = "five in a row pause the queue"
    RETRY_AFTER = "the queue pauses for as long as the target asks, an hour at most"
    GONE = "the queue pauses at once, and says that the target is gone"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table; `answers` is the text in the documentation."""

    answers: str
    statuses: Container[int | None]
    event: EventEffect
    target: TargetEffect
    has_retry_after: bool = False


# 425 is Too Early: the same request may be sent again (RFC 8470).
_BUSY: Final = (408, 425, 429)
_ANY: Final = (None, *range(1000))

RULES: Final = (
    Rule("2xx", range(200, 300), EventEffect.DELIVERED, TargetEffect.HEALTHY),
    Rule("400, 409, 413, 422", (400, 409, 413, 422), EventEffect.DEAD_LETTER, TargetEffect.HEALTHY),
    Rule("410", (410,), EventEffect.REFUSED, TargetEffect.GONE),
    Rule(
        "429 or 503 with `Retry-After`", (429, 503), EventEffect.WAITS, TargetEffect.RETRY_AFTER, has_retry_after=True
    ),
    Rule("408, 425, 429, 5xx", (*_BUSY, *range(500, 600)), EventEffect.RETRIED, TargetEffect.FAILING),
    Rule("any other 3xx or 4xx", range(300, 500), EventEffect.REFUSED, TargetEffect.FAILING),
    Rule("anything else, or no answer", _ANY, EventEffect.RETRIED, TargetEffect.FAILING),
)


def find_rule(status: int | None, *, has_retry_after: bool = False) -> Rule:
    """Return the rule for a status (None: no response); `has_retry_after`: with a readable Retry-After."""
    return next(r for r in RULES if status in r.statuses and (has_retry_after or not r.has_retry_after))
