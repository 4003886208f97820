"""The table of what an answer means, row by row, and that the documentation has the same one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from workers.handlers.forward import breaker, declaring, refusals
from workers.handlers.forward.answers import Answer, Refused, Taken, Trouble, Verdict, failed, judged
from workers.handlers.forward.rules import RULES, ForEvent, ForTarget, rule

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
README = (Path(__file__).parents[2] / "workers" / "handlers" / "README.md").read_text(encoding="utf-8")

ACCEPTED = {*range(200, 300)}
OF_THE_EVENT = {400, 409, 413, 422}
GONE = {410}
BUSY = {408, 425, 429, *range(500, 600)}
OF_THE_TARGET = {*range(300, 500)} - OF_THE_EVENT - GONE - BUSY
NO_ANSWER = {*range(200), *range(600, 1000)}


@pytest.mark.parametrize(
    ("statuses", "event", "target"),
    [
        pytest.param(ACCEPTED, ForEvent.DELIVERED, ForTarget.WELL, id="2xx"),
        pytest.param(OF_THE_EVENT, ForEvent.DEAD, ForTarget.WELL, id="the event's own"),
        pytest.param(GONE, ForEvent.DOUBTED, ForTarget.GONE, id="410"),
        pytest.param(BUSY, ForEvent.RETRIED, ForTarget.TROUBLE, id="busy or broken"),
        pytest.param(OF_THE_TARGET, ForEvent.DOUBTED, ForTarget.TROUBLE, id="3xx, other 4xx"),
        pytest.param({*NO_ANSWER, None}, ForEvent.RETRIED, ForTarget.TROUBLE, id="anything else"),
    ],
)
def test_each_status_has_its_row(statuses: set[int | None], event: ForEvent, target: ForTarget) -> None:
    assert {(rule(status).event, rule(status).target) for status in statuses} == {(event, target)}


def test_only_429_and_503_may_ask_for_time() -> None:
    assert {s for s in range(1000) if rule(s, asks_for_time=True).target is ForTarget.ASKS} == {429, 503}
    assert all(rule(s, asks_for_time=True) == rule(s) for s in range(1000) if s not in (429, 503))


@pytest.mark.parametrize("status", [401, 403, 404, 421, 301, 302, 307, 308])
def test_an_answer_that_every_event_would_get_speaks_of_the_target(status: int) -> None:
    assert rule(status).event is ForEvent.DOUBTED


def verdict(status: int, retry_after: str | None = None) -> Verdict:
    return judged(Answer(status, retry_after, b"body"), now=NOW)


def test_each_row_has_its_verdict() -> None:
    assert verdict(204) == Taken()
    assert verdict(422) == Refused("answered 422: body")
    assert verdict(404) == Trouble("answered 404", "answered 404: body", is_refusal=True)
    assert verdict(302) == Trouble("answered 302", "answered 302: body", is_refusal=True)
    assert verdict(502) == Trouble("answered 502", "answered 502: body")
    assert verdict(429, "17") == Trouble("answered 429", "answered 429: body", 17.0)
    assert verdict(429, "soon") == Trouble("answered 429", "answered 429: body")
    assert verdict(404, "17") == Trouble("answered 404", "answered 404: body", is_refusal=True)
    assert verdict(999) == Trouble("answered 999", "answered 999: body")
    assert failed(TimeoutError()) == Trouble("did not answer in time", "did not answer in time")


def test_a_target_that_is_gone_is_named_so_and_asked_again_every_five_minutes() -> None:
    found = verdict(410)

    assert isinstance(found, Trouble)
    assert found.brief == "answered 410: it says that it is gone for good; correct its URL, or remove the target"
    assert (found.reason, found.asked_seconds, found.is_refusal) == ("answered 410: body", 300.0, True)


def test_the_numbers_in_the_table_are_those_that_hold() -> None:
    numbers = {4: "four", 5: "five"}

    assert f"{declaring.ATTEMPTS} times" in ForEvent.RETRIED.value
    assert (
        f"refused {numbers[refusals.MOST_REFUSALS]} times over {refusals.LEAST_SECONDS:.0f} s" in ForEvent.DOUBTED.value
    )
    assert ForTarget.TROUBLE.value.startswith(numbers[breaker.FAILURES])


def test_the_documentation_has_the_same_table() -> None:
    _, found, rest = README.partition("| `forward` hears | the event | the target |\n|---|---|---|\n")
    assert found
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in rest.partition("\n\n")[0].splitlines()
    ]

    assert rows == [(row.answers, row.event.value, row.target.value) for row in RULES]
