"""The circuit breaker of a target: when its queue pauses, for how long, and which events lose an attempt."""

import pytest

from tests.clock import Clock
from workers.handlers.forward.circuit_breaker import FAILURES, MAX_REFUSALS, CircuitBreaker


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock=clock)


def fail(breaker: CircuitBreaker, event_id: str, retry_after: float | None = None) -> float | None:
    """Begin a call for one event and let it fail."""
    return breaker.record_failure(breaker.begin(), event_id, retry_after_seconds=retry_after)


def refuse(breaker: CircuitBreaker, event_id: str, retry_after: float | None = None) -> float | None:
    """Begin a call for one event and let it be refused."""
    return breaker.record_failure(breaker.begin(), event_id, retry_after_seconds=retry_after, is_refusal=True)


def test_it_takes_five_failures_in_a_row(breaker: CircuitBreaker) -> None:
    assert [fail(breaker, str(n)) for n in range(FAILURES)] == [None] * 4 + [5.0]


def test_a_success_resets_the_count(breaker: CircuitBreaker) -> None:
    for n in range(20):
        assert fail(breaker, str(n)) is None
        if n % 4 == 3:
            breaker.record_success()


def test_each_failed_probe_doubles_the_pause_up_to_five_minutes_and_a_success_resets_it(
    breaker: CircuitBreaker,
) -> None:
    pauses = [fail(breaker, str(n)) for n in range(13)]
    assert pauses[4:] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]

    breaker.record_success()

    assert [fail(breaker, str(n)) for n in range(5)] == [None] * 4 + [5.0]


def test_calls_in_flight_end_in_the_same_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    begun = [breaker.begin() for _ in range(32)]
    found = []
    for n, one in enumerate(begun):
        found.append(breaker.record_failure(one, str(n)))
        clock.seconds += 0.25

    assert found[:5] == [None] * 4 + [5.0]
    assert found[5:9] == [4.75, 4.5, 4.25, 4.0], "the rest of the pause"
    assert found[-1] == 1.0, "even after its end, because they say nothing new"
    assert fail(breaker, "probe") == 10.0


def test_an_event_that_fails_as_the_probe_twice_loses_an_attempt_and_another_becomes_the_probe(
    breaker: CircuitBreaker,
) -> None:
    for n in range(5):
        fail(breaker, str(n))

    assert [fail(breaker, "bad") for _ in range(4)] == [10.0, None, 20.0, None]
    assert fail(breaker, "other") == 40.0


def test_retry_after_pauses_at_once(breaker: CircuitBreaker) -> None:
    assert fail(breaker, "1", retry_after=17.0) == 17.0
    assert fail(breaker, "2", retry_after=30.0) == 30.0
    assert fail(breaker, "3") == 5.0, "Retry-After does not lengthen the backoff"
    breaker.record_success()
    assert fail(breaker, "4") is None


def test_a_retry_after_of_zero_pauses_for_a_second(breaker: CircuitBreaker) -> None:
    assert fail(breaker, "1", retry_after=0.0) == 1.0


def test_a_call_that_began_before_the_target_recovered_counts_as_any_failure(breaker: CircuitBreaker) -> None:
    old = breaker.begin()
    for n in range(5):
        fail(breaker, str(n))
    breaker.record_success()

    assert breaker.record_failure(old, "old") is None


def test_refusals_pause_as_failures_do_and_both_count_together(breaker: CircuitBreaker) -> None:
    assert [refuse(breaker, str(n)) for n in range(FAILURES)] == [None] * 4 + [5.0]
    breaker.record_success()

    assert [fail(breaker, "a"), refuse(breaker, "b"), fail(breaker, "c"), refuse(breaker, "d")] == [None] * 4
    assert fail(breaker, "e") == 5.0


def test_one_event_that_is_refused_repeatedly_pauses_nothing(breaker: CircuitBreaker) -> None:
    assert [refuse(breaker, "only") for _ in range(50)] == [None] * 50
    assert breaker.failures == 1


def test_refusals_in_flight_end_in_the_same_pause(breaker: CircuitBreaker) -> None:
    begun = [breaker.begin() for _ in range(32)]

    found = [breaker.record_failure(one, str(n), is_refusal=True) for n, one in enumerate(begun)]

    assert found == [None] * 4 + [5.0] * 28


def test_a_refused_probe_loses_an_attempt_and_every_fourth_lengthens_the_pause(breaker: CircuitBreaker) -> None:
    for n in range(FAILURES):
        refuse(breaker, str(n))

    assert [refuse(breaker, f"probe {n}") for n in range(9)] == [None, None, None, 10.0, None, None, None, 20.0, None]


def test_a_target_that_is_gone_is_paused_at_once_and_another_event_is_the_next_probe(
    breaker: CircuitBreaker,
) -> None:
    assert refuse(breaker, "1", retry_after=300.0) == 300.0
    assert refuse(breaker, "1", retry_after=300.0) is None


def test_a_target_that_refuses_many_in_a_row_and_accepts_others_is_paused_less_and_less(
    breaker: CircuitBreaker,
) -> None:
    rows = []
    for turn in range(8):
        row = 0
        while refuse(breaker, f"{turn}/{row}") is None:
            row += 1
        rows.append(row + 1)
        breaker.record_success()

    assert rows == [5, 10, 20, 40, 80, 160, 320, MAX_REFUSALS]


def test_a_target_that_has_refused_nothing_for_a_while_starts_from_zero(breaker: CircuitBreaker) -> None:
    for n in range(FAILURES):
        refuse(breaker, str(n))
    for _ in range(100):
        breaker.record_success()

    assert [refuse(breaker, str(n)) for n in range(FAILURES)] == [None] * 4 + [5.0]


def test_only_refusals_need_the_longer_row(breaker: CircuitBreaker) -> None:
    for n in range(FAILURES):
        refuse(breaker, str(n))
    breaker.record_success()

    assert [refuse(breaker, "0"), refuse(breaker, "1")] == [None, None]
    assert [fail(breaker, str(n)) for n in range(3)] == [None, None, 5.0]
