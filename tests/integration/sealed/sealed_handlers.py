"""Handlers of sealed events: what they saw, and the dead letters of the one that fails."""

from typing import Final

from callbacks import Event, Pause, ReplyEvent, ReportEvent, handler
from shared import keys
from tests.integration.harness import Harness
from workers.failures.failure import DeadLetterSummary
from workers.failures.store import FailureStore

NUMBER: Final = "35699777123"
# The ids of the events that `first` and `second` got.
seen: list[str] = []


@handler(ReportEvent, ReplyEvent)
def first(event: Event) -> None:
    seen.append(event.id)


@handler(ReportEvent, ReplyEvent)
def second(event: Event) -> None:
    seen.append(event.id)


@handler(ReportEvent, attempts=1)
def dies(event: Event) -> None:
    raise ValueError(f"nobody has {event.recipient}")


@handler(ReportEvent)
def pauses(_event: Event) -> None:
    raise Pause(3600, "closed")


def letters_of(harness: Harness) -> list[DeadLetterSummary]:
    ids = [failure_id.decode() for failure_id in harness.connection.zrange(keys.dead("dies"), 0, -1)]
    return [*FailureStore(harness.connection).read_summaries("dies", ids)]
