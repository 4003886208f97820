"""The table of what a response means, row by row; the documentation has the same table."""

from datetime import UTC, datetime

import pytest

from workers.handlers.forward import circuit_breaker, refusals, target_handler
from workers.handlers.forward.responses import (
    EventRefused,
    Response,
    SendResult,
    Sent,
    TargetFailed,
    interpret_error,
    interpret_response,
)
from workers.handlers.forward.rules import EventEffect, TargetEffect, find_rule

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)

ACCEPTED = {*range(200, 300)}
OF_THE_EVENT = {400, 409, 413, 422}
GONE = {410}
BUSY = {408, 425, 429, *range(500, 600)}
OF_THE_TARGET = {*range(300, 500)} - OF_THE_EVENT - GONE - BUSY
NO_ANSWER = {*range(200), *range(600, 1000)}


@pytest.mark.parametrize(
    ("statuses", "event", "target"),
    [
        pytest.param(ACCEPTED, EventEffect.DELIVERED, TargetEffect.HEALTHY, id="2xx"),
        pytest.param(OF_THE_EVENT, EventEffect.DEAD_LETTER, TargetEffect.HEALTHY, id="the event's own"),
        pytest.param(GONE, EventEffect.REFUSED, TargetEffect.GONE, id="410"),
        pytest.param(BUSY, EventEffect.RETRIED, TargetEffect.FAILING, id="busy or broken"),
        pytest.param(OF_THE_TARGET, EventEffect.REFUSED, TargetEffect.FAILING, id="3xx, other 4xx"),
        pytest.param({*NO_ANSWER, None}, EventEffect.RETRIED, TargetEffect.FAILING, id="anything else"),
    ],
)
def test_each_status_has_its_row(statuses: set[int | None], event: EventEffect, target: TargetEffect) -> None:
    assert {(find_rule(status).event, find_rule(status).target) for status in statuses} == {(event, target)}


def test_retry_after_counts_for_429_and_503_only() -> None:
    assert {s for s in range(1000) if find_rule(s, has_retry_after=True).target is TargetEffect.RETRY_AFTER} == {
        429,
        503,
    }
    assert all(find_rule(s, has_retry_after=True) == find_rule(s) for s in range(1000) if s not in (429, 503))


@pytest.mark.parametrize("status", [401, 403, 404, 421, 301, 302, 307, 308])
def test_a_response_that_every_event_would_get_concerns_the_target(status: int) -> None:
    assert find_rule(status).event is EventEffect.REFUSED


def result_of(status: int, retry_after: str | None = None) -> SendResult:
    return interpret_response(Response(status, retry_after, b"body"), now=NOW)


def test_each_row_has_its_result() -> None:
    assert isinstance(result_of(204), Sent)
    assert result_of(422) == EventRefused("answered 422: body")
    assert result_of(404) == TargetFailed("answered 404", "answered 404: body", is_refusal=True)
    assert result_of(302) == TargetFailed("answered 302", "answered 302: body", is_refusal=True)
    assert result_of(502) == TargetFailed("answered 502", "answered 502: body")
    assert result_of(429, "17") == TargetFailed("answered 429", "answered 429: body", 17.0)
    assert result_of(429, "soon") == TargetFailed("answered 429", "answered 429: body")
    assert result_of(404, "17") == TargetFailed("answered 404", "answered 404: body", is_refusal=True)
    assert result_of(999) == TargetFailed("answered 999", "answered 999: body")
    assert interpret_error(TimeoutError()) == TargetFailed("did not answer in time", "did not answer in time")


def test_a_target_that_is_gone_is_named_so_and_tried_every_five_minutes() -> None:
    found = result_of(410)

    assert isinstance(found, TargetFailed)
    assert found.brief == "answered 410: the target says that it is gone for good; correct its URL or remove the target"
    assert (found.reason, found.retry_after_seconds, found.is_refusal) == ("answered 410: body", 300.0, True)


def test_the_numbers_in_the_table_are_those_that_hold() -> None:
    numbers = {4: "four", 5: "five"}

    assert f"{target_handler.ATTEMPTS} times" in EventEffect.RETRIED.value
    assert (
        f"refused {numbers[refusals.MAX_REFUSALS]} times over {refusals.MIN_SECONDS:.0f} s" in EventEffect.REFUSED.value
    )
    assert TargetEffect.FAILING.value.startswith(numbers[circuit_breaker.FAILURES])
