"""Which live events are wanted, on the page and in the terminal alike."""

import pytest

from shared.live_filter import Filter
from tests.unit import example_events


def just(*words: str) -> frozenset[str]:
    return frozenset(words)


@pytest.mark.parametrize(
    ("wanted", "report", "reply"),
    [
        (Filter(), True, True),
        (Filter(kinds=just("reply")), False, True),
        (Filter(statuses=just("DELIVRD")), True, False),
        (Filter(statuses=just("delivrd")), True, False),
        (Filter(statuses=just("UNDELIV")), False, False),
        (Filter(channels=just("SMS", "viber")), True, True),
        (Filter(channels=just("INTERNAL")), False, False),
        (Filter(sources=just("nobody")), False, False),
    ],
)
def test_it_wants_what_has_all_that_it_names(wanted: Filter, report: bool, reply: bool) -> None:
    assert wanted.wants(example_events.report()) == report
    assert wanted.wants(example_events.reply()) == reply


@pytest.mark.parametrize("number", ["35679000123", "+356 79-000 123", "790001"])
def test_a_number_is_the_persons_whom_a_report_is_about_and_who_replied(number: str) -> None:
    sent = example_events.report(**{"to": "35679000123", "from": "35699000001"})
    came = example_events.reply(**{"from": "35679000123", "to": "35699000001"})

    assert Filter(number=number).wants(sent)
    assert Filter(number=number).wants(came)
    assert not Filter(number="35699000001").wants(sent)
    assert not Filter(number="35699000001").wants(came)


@pytest.mark.parametrize("number", ["nobody", "+"])
def test_what_is_no_number_is_nobodys(number: str) -> None:
    assert not Filter(number=number).wants(example_events.report())
