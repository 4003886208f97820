"""The states in the output of `callbacks handlers list` are the words of `callbacks top` and of the operators' page."""

from datetime import UTC, datetime

import pytest

from callbacks.cli import handlers_table
from callbacks.cli.handlers_table import Kind, Row
from workers.admin.handler_states import HandlerState
from workers.admin.queue_state import QueueState
from workers.runtime.pause import PauseState


def pause_state(*, until: datetime | None = None, is_probing: bool = False) -> PauseState:
    return PauseState(
        by="operator" if until is None else "handler",
        since=datetime(2026, 1, 1, tzinfo=UTC),
        until=until,
        seconds_left=1.0,
        reason="down",
        times=1,
        is_probing=is_probing,
    )


@pytest.mark.parametrize(
    ("kind", "workers", "paused", "expected"),
    [
        ("named", 1, None, "active"),
        ("named", 0, None, "no worker"),
        ("named", 1, pause_state(), "paused"),
        ("named", 1, pause_state(until=datetime(2026, 1, 1, 12, 30, tzinfo=UTC)), "paused, until 12:30:00"),
        ("named", 1, pause_state(until=datetime(2026, 1, 1, tzinfo=UTC), is_probing=True), "paused, tries one"),
        ("removed", 1, None, "running elsewhere"),
        ("removed", 0, None, "removed"),
    ],
)
def test_the_state_of_a_handler_is_a_word(kind: Kind, workers: int, paused: PauseState | None, expected: str) -> None:
    queue = QueueState(
        waiting=1, jobs=1, running=0, scheduled=0, dead=0, oldest_at=None, next_attempt_at=None, workers=workers
    )
    state = HandlerState(handler="crm", queue=queue, pause_state=paused, subscription=None)
    row = Row(name="crm", kind=kind, found=None, state=state)

    assert handlers_table.state_text(row) == expected


def test_without_redis_the_state_is_unknown() -> None:
    assert handlers_table.state_text(Row(name="crm", kind="named", found=None, state=None)) == "unknown"
