"""A wrongly made Pause, Retry or Reject is the failure of that call, and has no other effect.

Otherwise the job comes back to its queue without end, an event and an ERROR a second, with no attempt burnt.
"""

from typing import Any

import pytest

from callbacks import Pause, Reject, ReportEvent, Retry
from tests.integration.harness import HandlerTotals, open_harness
from tests.integration.scripted_handlers import accept_and_expand, other, script, single, whole
from tests.redis_server import RedisServer

NAN = float("nan")


class Unmade(Pause):
    """Does not call `super().__init__`, so it lacks the attributes of a Pause."""

    def __init__(self) -> None:
        pass


class Mute(Reject):
    """Has a `__str__` that raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def changed(signal: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(signal, name, value)
    return signal


@pytest.mark.parametrize(
    "signal",
    [
        pytest.param(Pause(60, reason=TimeoutError("an error, no text")), id="a reason that is an error"),  # type: ignore[arg-type]
        pytest.param(Pause(60, reason=None), id="no reason"),  # type: ignore[arg-type]
        pytest.param(Unmade(), id="a pause without a time"),
        pytest.param(changed(Pause(60), after_seconds="ten"), id="a time that is a word"),
        pytest.param(changed(Pause(60), after_seconds=NAN), id="a pause that is no number"),
        pytest.param(changed(Retry(60), after_seconds=NAN), id="a retry that is no number"),
        pytest.param(Mute(), id="a refusal without words"),
    ],
)
def test_the_event_is_retried_or_dead_and_the_one_before_it_is_delivered(
    quick_redis: RedisServer,
    signal: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script.__init__()  # type: ignore[misc]

    def act(event: ReportEvent) -> None:
        if event.message_id == "2":
            raise signal

    with open_harness(quick_redis.url, single, other, whole) as harness:
        accept_and_expand(harness, "1", "2")
        script.act = act

        harness.deliver(single, max_jobs=1)

        assert "action=job_failed" not in caplog.text
        totals = harness.totals(single)
        assert totals in (HandlerTotals(delivered=1, dead=1), HandlerTotals(delivered=1, waiting=1))
