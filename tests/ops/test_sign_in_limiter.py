"""How often a password may be tried, from one address and from all together."""

from callbacks.ops.access.sign_in_limiter import MAX_PER_ADDRESS, MAX_TOTAL, PERIOD_SECONDS, SignInLimiter
from tests.clock import Clock


def test_an_address_has_to_wait_when_it_was_wrong_too_often_and_others_need_not() -> None:
    clock = Clock()
    limiter = SignInLimiter(clock)
    for _ in range(MAX_PER_ADDRESS):
        assert limiter.wait_seconds("a") == 0
        limiter.record_failure("a")
        clock.seconds += 1
    assert limiter.wait_seconds("a") == PERIOD_SECONDS - MAX_PER_ADDRESS
    assert limiter.wait_seconds("b") == 0


def test_it_may_try_again_when_the_first_of_them_is_long_ago() -> None:
    clock = Clock()
    limiter = SignInLimiter(clock)
    for _ in range(MAX_PER_ADDRESS):
        limiter.record_failure("a")
    clock.seconds += PERIOD_SECONDS - 1
    assert limiter.wait_seconds("a") == 1
    clock.seconds += 1
    assert limiter.wait_seconds("a") == 0


def test_many_addresses_cannot_guess_together_nor_lock_out_who_is_at_home() -> None:
    limiter = SignInLimiter(Clock())
    limiter.record_success("home")
    for number in range(MAX_TOTAL):
        limiter.record_failure(f"stranger-{number}")
    assert limiter.wait_seconds("another") == PERIOD_SECONDS
    assert limiter.wait_seconds("home") == 0


def test_what_is_remembered_is_bounded_however_many_come() -> None:
    limiter = SignInLimiter(Clock())
    for number in range(10_000):
        limiter.record_failure(str(number))
        limiter.record_success(str(number))
    assert len(limiter._by_address) == len(limiter._known) == 4096
    assert len(limiter._total) <= MAX_TOTAL
