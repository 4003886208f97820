"""What a failing handler may leave behind: anything while there is room, and else what its deliveries made room for."""

import pytest
import redis

from shared.memory import FAILURES_SHARE, Memory
from workers.runtime.headroom import FailureLimit, Headroom
from workers.runtime.outcome import DONE, Failed, Outcome, Paused, Rejected, RetryRequested

FULL = Memory(90, 100)
FAILED = Failed("RuntimeError: no", "", "exception", "RuntimeError at orders.py:12")


def limit(*found: Memory | Exception) -> FailureLimit:
    """Return one for a Redis that answers so, the last of it again and again."""
    answers = list(found)

    def read() -> Memory:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return FailureLimit(Headroom(read))


@pytest.mark.parametrize(
    "outcome", [FAILED, RetryRequested(None, ""), Rejected("no")], ids=["failed", "retry", "rejected"]
)
@pytest.mark.parametrize("found", [Memory(84, 100), Memory(1 << 40, 0)], ids=["room", "no-limit"])
def test_while_there_is_room_every_failure_counts(outcome: Outcome, found: Memory) -> None:
    big = Memory(found.used_bytes * 1_000_000, found.max_bytes * 1_000_000)

    assert limit(big).apply(outcome, is_probe=False) == outcome


@pytest.mark.parametrize(
    "outcome", [FAILED, RetryRequested(None, ""), Rejected("no")], ids=["failed", "retry", "rejected"]
)
def test_without_room_a_failure_is_a_pause_with_its_reason(outcome: Outcome) -> None:
    paused = limit(FULL).apply(outcome, is_probe=False)

    assert isinstance(paused, Paused)
    assert (paused.by, paused.reason) == ("memory", "Redis is 90% full; retries of this handler would fill it")


@pytest.mark.parametrize("outcome", [DONE, Paused(5, "moving house")], ids=["done", "paused"])
def test_what_leaves_nothing_behind_stays_what_it_is(outcome: Outcome) -> None:
    assert limit(FULL).apply(outcome, is_probe=False) == outcome


def test_the_failure_of_a_probe_counts_in_any_case() -> None:
    assert limit(FULL).apply(FAILED, is_probe=True) == FAILED


def test_what_was_delivered_makes_room_for_a_failure_now_and_then() -> None:
    limited = limit(FULL)
    limited.add_delivered(100)

    ends = [isinstance(limited.apply(FAILED, is_probe=False), Paused) for _ in range(100)]

    assert ends == [False] * 20 + [True] * 80


def test_however_much_was_delivered_a_broken_handler_is_soon_paused() -> None:
    limited = limit(FULL)
    for _ in range(10_000):
        limited.add_delivered(1)

    failures = next(n for n in range(10_000) if isinstance(limited.apply(FAILED, is_probe=False), Paused))

    assert failures == 100


def test_what_this_process_adds_counts_before_redis_is_asked_again() -> None:
    room = int(1_000_000 * FAILURES_SHARE) - 10_000
    limited = limit(Memory(room, 1_000_000), FULL)

    ends = [isinstance(limited.apply(FAILED, is_probe=False), Paused) for _ in range(10)]

    assert ends == [False] * 5 + [True] * 5


def test_a_redis_that_does_not_answer_is_as_full_as_it_was() -> None:
    assert limit(redis.ConnectionError()).apply(FAILED, is_probe=False) == FAILED


def test_it_has_recovered_some_way_below_the_share_at_which_it_paused() -> None:
    assert not limit(Memory(82, 100)).has_recovered()
    assert limit(Memory(79, 100)).has_recovered()
