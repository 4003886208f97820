"""How often a password may be tried, from one address and from all together."""

from callbacks.ops.access.attempts import MOST_IN_ALL, MOST_PER_ADDRESS, PERIOD_SECONDS, Attempts
from tests.clock import Clock


def test_an_address_has_to_wait_when_it_was_wrong_too_often_and_others_need_not() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(MOST_PER_ADDRESS):
        assert attempts.wait_seconds("a") == 0
        attempts.failed("a")
        clock.seconds += 1
    assert attempts.wait_seconds("a") == PERIOD_SECONDS - MOST_PER_ADDRESS
    assert attempts.wait_seconds("b") == 0


def test_it_may_try_again_when_the_first_of_them_is_long_ago() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(MOST_PER_ADDRESS):
        attempts.failed("a")
    clock.seconds += PERIOD_SECONDS - 1
    assert attempts.wait_seconds("a") == 1
    clock.seconds += 1
    assert attempts.wait_seconds("a") == 0


def test_many_addresses_cannot_guess_together_nor_lock_out_who_is_at_home() -> None:
    attempts = Attempts(Clock())
    attempts.succeeded("home")
    for number in range(MOST_IN_ALL):
        attempts.failed(f"stranger-{number}")
    assert attempts.wait_seconds("another") == PERIOD_SECONDS
    assert attempts.wait_seconds("home") == 0


def test_what_is_remembered_is_bounded_however_many_come() -> None:
    attempts = Attempts(Clock())
    for number in range(10_000):
        attempts.failed(str(number))
        attempts.succeeded(str(number))
    assert len(attempts._by_address) == len(attempts._known) == 4096
    assert len(attempts._in_all) <= MOST_IN_ALL
