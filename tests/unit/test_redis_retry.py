"""Waiting for Redis, the pauses between attempts, and jobs that this release cannot read."""

from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import orjson
import pytest
import redis

from shared import queues
from workers.deliver import retries
from workers.runtime import redis_retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(redis_retry, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "carried out"

    return call


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Connection refused"),
        redis.TimeoutError("Timeout reading from socket"),
        redis.BusyLoadingError("Redis is loading the dataset in memory"),
        redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.ReadOnlyError("You can't write against a read only replica."),
        redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
        redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis.ResponseError(
            "Command # 1 (HSET a b c) of pipeline caused error: NOREPLICAS Not enough good replicas to write."
        ),
        redis.ResponseError("BUSY Redis is busy running a script."),
        redis.ResponseError("Error running script: @user_script:20: -OOM command not allowed when used memory"),
    ],
    ids=lambda error: f"{type(error).__name__}: {str(error)[:20]}",
)
def test_a_settlement_waits_while_redis_cannot_take_it(error: Exception, pauses: list[float]) -> None:
    assert redis_retry.retry_while_unavailable(failing(50, error)) == "carried out"
    assert len(pauses) == 50


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        redis.AuthenticationError("WRONGPASS invalid username-password pair"),
        redis.exceptions.NoPermissionError("this user has no permissions"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_waiting_does_not_help_are_raised(error: redis.RedisError, pauses: list[float]) -> None:
    with pytest.raises(type(error)):
        redis_retry.retry_while_unavailable(failing(1, error))
    assert not pauses


def test_the_pauses_between_attempts_grow_fourfold_up_to_an_hour() -> None:
    for attempt, seconds in enumerate([1, 4, 16, 64, 256, 1024, 3600, 3600], start=1):
        assert 0.9 * seconds <= retries.backoff_seconds(attempt) <= 1.1 * seconds
    assert retries.backoff_seconds(10_000) <= 1.1 * 3600


def test_a_jobs_arguments_are_read_as_they_were_written() -> None:
    data = queues.encode_call(queues.EXPAND_JOB, (1, [["status"]]))
    assert queues.parse_arguments(data) == [1, [msgspec.Raw(b'["status"]')]]


@pytest.mark.parametrize("arguments", [[], [2, []], ["1", []], [0], [2, {"shape": None}], [None]], ids=str)
def test_a_job_of_another_release_is_refused(arguments: list[object]) -> None:
    with pytest.raises(ValueError, match="version"):
        queues.parse_arguments(orjson.dumps(("workers.jobs.expand", None, arguments, {})))


@pytest.mark.parametrize("arguments", [[1, None], [1, {}], [1, "sms", 1.5, []]], ids=str)
def test_a_job_of_another_shape_is_refused(arguments: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        queues.parse_arguments(orjson.dumps(("workers.jobs.expand", None, arguments, {})))
