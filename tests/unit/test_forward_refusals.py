"""When a refusal is the event's own: after several over a while, between which the target accepted others."""

import pytest

from tests.clock import Clock
from workers.handlers.forward.refusals import AGAIN_SECONDS, LEAST_SECONDS, MOST_REFUSALS, Refusals


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> Refusals:
    return Refusals(clock=clock)


def accept_another(refusals: Refusals, clock: Clock) -> None:
    clock.seconds += 0.1
    refusals.accepted(refusals.begin(), "another")


def test_an_event_that_is_refused_while_others_are_accepted_is_refused_for_good_in_the_end(
    refusals: Refusals, clock: Clock
) -> None:
    found = []
    for _ in range(MOST_REFUSALS):
        found.append(refusals.refused("bad"))
        accept_another(refusals, clock)
        clock.seconds += AGAIN_SECONDS

    assert found == [None, False, False, True]


def test_a_target_that_accepts_nothing_refuses_no_event_for_good(refusals: Refusals, clock: Clock) -> None:
    accept_another(refusals, clock)
    for _ in range(100):
        clock.seconds += AGAIN_SECONDS
        assert refusals.refused("good") is None


def test_what_was_accepted_by_a_call_that_began_before_the_refusal_proves_nothing(
    refusals: Refusals, clock: Clock
) -> None:
    begun = refusals.begin()
    clock.seconds += 1.0
    refusals.refused("good")
    clock.seconds += 1.0
    refusals.accepted(begun, "another")
    clock.seconds += LEAST_SECONDS

    assert refusals.refused("good") is None


def test_refusals_within_a_moment_are_not_enough_however_many(refusals: Refusals, clock: Clock) -> None:
    refusals.refused("good")
    for _ in range(10):
        accept_another(refusals, clock)
        assert refusals.refused("good") is False


def test_an_event_that_was_accepted_begins_anew(refusals: Refusals, clock: Clock) -> None:
    for _ in range(MOST_REFUSALS - 1):
        refusals.refused("fickle")
        accept_another(refusals, clock)
        clock.seconds += LEAST_SECONDS
    refusals.accepted(refusals.begin(), "fickle")

    assert refusals.refused("fickle") is None


def test_it_remembers_ten_thousand_events_and_the_oldest_go_first(refusals: Refusals, clock: Clock) -> None:
    for n in range(10_001):
        refusals.refused(str(n))
    accept_another(refusals, clock)

    assert refusals.refused("0") is None
    assert refusals.refused("10000") is False
