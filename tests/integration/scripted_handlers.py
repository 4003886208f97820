"""Handlers that do what a test tells them, and the questions that tests of delivery ask."""

from collections.abc import Callable
from typing import Any

from callbacks import ReportEvent, handler
from tests.integration.harness import Harness, statuses


class HandlerScript:
    """What the handlers of this file do next, and what they were called with: by message id."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.act: Callable[[ReportEvent], Any] = lambda _event: None

    @property
    def called(self) -> list[str]:
        return [message_id for call in self.calls for message_id in call]


script = HandlerScript()


@handler(ReportEvent, attempts=3)
def single(event: ReportEvent) -> Any:
    script.calls.append([event.message_id])
    return script.act(event)


@handler(ReportEvent, attempts=3)
def other(event: ReportEvent) -> None:
    """Have no trouble."""


@handler(ReportEvent, batch=True, attempts=3)
def whole(batch: list[ReportEvent]) -> None:
    script.calls.append([event.message_id for event in batch])
    for event in batch:
        script.act(event)


def accept_and_expand(harness: Harness, *message_ids: str) -> None:
    """Have these events wait at each handler, in one job."""
    harness.accept(*statuses(message_ids))
    harness.expand()


def fail_for(*message_ids: str) -> Callable[[ReportEvent], None]:
    def act(event: ReportEvent) -> None:
        if event.message_id in message_ids:
            raise RuntimeError(f"no {event.message_id} today")

    return act
