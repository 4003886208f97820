"""Which live events are wanted, on the page and in the terminal alike."""

import pytest

from shared.live_filter import LiveFilter
from tests.unit import example_events


def just(*words: str) -> frozenset[str]:
    return frozenset(words)


@pytest.mark.parametrize(
    ("wanted", "report", "reply"),
    [
        (LiveFilter(), True, True),
        (LiveFilter(kinds=just("reply")), False, True),
        (LiveFilter(statuses=just("DELIVRD")), True, False),
        (LiveFilter(statuses=just("delivrd")), True, False),
        (LiveFilter(statuses=just("UNDELIV")), False, False),
        (LiveFilter(channels=just("SMS", "viber")), True, True),
        (LiveFilter(channels=just("INTERNAL")), False, False),
        (LiveFilter(sources=just("nobody")), False, False),
    ],
)
def test_it_wants_what_has_all_that_it_names(wanted: LiveFilter, report: bool, reply: bool) -> None:
    assert wanted.matches(example_events.report()) == report
    assert wanted.matches(example_events.reply()) == reply


@pytest.mark.parametrize("number", ["35679000123", "+356 79-000 123", "790001", "0035679"])
def test_a_number_is_the_persons_whom_a_report_is_about_and_who_replied(number: str) -> None:
    sent = example_events.report(**{"to": "35679000123", "from": "35699000001"})
    came = example_events.reply(**{"from": "35679000123", "to": "35699000001"})

    assert LiveFilter(number=number).matches(sent)
    assert LiveFilter(number=number).matches(came)
    assert not LiveFilter(number="35699000001").matches(sent)
    assert not LiveFilter(number="35699000001").matches(came)


def test_a_name_with_digits_is_not_a_number() -> None:
    named = example_events.reply(**{"from": "ACME24"})

    assert LiveFilter(number="ACME24").matches(named)
    assert not LiveFilter(number="24").matches(named)


@pytest.mark.parametrize("number", ["nobody", "+"])
def test_what_is_no_number_is_nobodys(number: str) -> None:
    assert not LiveFilter(number=number).matches(example_events.report())
