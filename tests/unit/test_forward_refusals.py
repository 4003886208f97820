"""When a refusal concerns the event: after several over some time, while the target accepted others."""

import pytest

from tests.clock import Clock
from workers.handlers.forward.refusals import MAX_REFUSALS, MIN_SECONDS, RETRY_SECONDS, RefusalTracker


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> RefusalTracker:
    return RefusalTracker(clock=clock)


def accept_another(refusals: RefusalTracker, clock: Clock) -> None:
    clock.seconds += 0.1
    refusals.record_accepted(refusals.begin(), "another")


def test_an_event_that_is_refused_while_others_are_accepted_is_finally_refused_for_good(
    refusals: RefusalTracker, clock: Clock
) -> None:
    found = []
    for _ in range(MAX_REFUSALS):
        found.append(refusals.record_refused("bad"))
        accept_another(refusals, clock)
        clock.seconds += RETRY_SECONDS

    assert found == [None, False, False, True]


def test_a_target_that_accepts_nothing_refuses_no_event_for_good(refusals: RefusalTracker, clock: Clock) -> None:
    accept_another(refusals, clock)
    for _ in range(100):
        clock.seconds += RETRY_SECONDS
        assert refusals.record_refused("good") is None


def test_what_was_accepted_by_a_call_that_began_before_the_refusal_proves_nothing(
    refusals: RefusalTracker, clock: Clock
) -> None:
    begun = refusals.begin()
    clock.seconds += 1.0
    refusals.record_refused("good")
    clock.seconds += 1.0
    refusals.record_accepted(begun, "another")
    clock.seconds += MIN_SECONDS

    assert refusals.record_refused("good") is None


def test_refusals_within_a_moment_are_not_enough_however_many(refusals: RefusalTracker, clock: Clock) -> None:
    refusals.record_refused("good")
    for _ in range(10):
        accept_another(refusals, clock)
        assert refusals.record_refused("good") is False


def test_an_event_that_was_accepted_starts_from_zero(refusals: RefusalTracker, clock: Clock) -> None:
    for _ in range(MAX_REFUSALS - 1):
        refusals.record_refused("unsteady")
        accept_another(refusals, clock)
        clock.seconds += MIN_SECONDS
    refusals.record_accepted(refusals.begin(), "unsteady")

    assert refusals.record_refused("unsteady") is None


def test_it_remembers_ten_thousand_events_and_the_oldest_go_first(refusals: RefusalTracker, clock: Clock) -> None:
    for n in range(10_001):
        refusals.record_refused(str(n))
    accept_another(refusals, clock)

    assert refusals.record_refused("0") is None
    assert refusals.record_refused("10000") is False
