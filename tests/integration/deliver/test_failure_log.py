"""The log says what a handler raised or said: in a retry, in a dead letter, for a whole batch."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from callbacks import Reject, ReportEvent, Retry
from tests.integration.harness import Harness
from tests.integration.scripted_handlers import accept_and_expand, script, single, whole


def closed(event: ReportEvent) -> None:
    raise Retry(60, reason="shop is closed")


def unknown(event: ReportEvent) -> None:
    raise Reject("no such order")


def failing(event: ReportEvent) -> None:
    raise LookupError(f"no account for {event.recipient}")


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (closed, 'action=event_retried handler={} events=1 cause=retryrequested error="shop is closed"'),
        (unknown, 'action=event_dead handler={} events=1 cause=rejected error="no such order"'),
        (failing, 'error="LookupError: no account for 356*****001"'),
    ],
)
@pytest.mark.parametrize("function", [single, whole], ids=["single", "batch"])
def test_a_line_has_what_the_handler_raised_or_said(
    harness: Harness,
    caplog: pytest.LogCaptureFixture,
    function: Callable[..., Any],
    act: Callable[[ReportEvent], None],
    line: str,
) -> None:
    accept_and_expand(harness, "1")
    script.act = act

    with caplog.at_level(logging.WARNING):
        harness.deliver(function)

    assert line.format(function.__name__) in caplog.text
    assert "35699000001" not in caplog.text


def test_a_batch_that_asks_for_a_retry_has_one_line(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = closed

    with caplog.at_level(logging.WARNING):
        harness.deliver(whole)

    assert 'action=event_retried handler=whole events=3 cause=retryrequested error="shop is closed"' in caplog.text
