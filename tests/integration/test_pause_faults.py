"""A pause, and the probe that ends it, disturbed at every exchange with Redis: nothing is lost, no attempt either."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration import faults, witnesses
from tests.integration.faults import Fault, Journey
from tests.integration.pausing_witnesses import away, distant, told
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, record, status  # noqa: F401
from tests.redis_server import RedisServer
from workers.runtime import pause

_QUEUE = "deliver-distant"


@pytest.fixture
def b(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:  # noqa: F811
    monkeypatch.setenv(witnesses.VARIABLE, str(tmp_path / "calls"))
    faults.hurried(monkeypatch)
    with bench(quick_redis.url, distant) as made:
        yield made


def brought(b: Bench, *, paused: bool) -> None:
    """Have three events wait, in two jobs; `paused`: of a pause that is over, with the target back."""
    b.connection.flushall()
    Path(f"{away()}".removesuffix(".away")).unlink(missing_ok=True)
    away().write_text("600")
    for records in ([record("1"), record("2")], [record("3")]):
        b.keep(status(*records))
        b.expand()
    if paused:
        b.deliver(distant)
        target_is_back(b)


def target_is_back(b: Bench) -> None:
    away().unlink(missing_ok=True)
    b.connection.hset(keys.paused("distant"), "until_ms", 1)


def figures(b: Bench) -> tuple[int, int, int, int]:
    (found,) = b.audit().handlers
    return found.delivered, found.dead, found.waiting, found.missing


def attempts(b: Bench) -> set[int]:
    return {queues.parse_arguments(b.connection.hget(keys.job(job), "data"))[2] for job in b.waiting(_QUEUE)}


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_of_a_pause_loses_nothing_and_burns_no_attempt(b: Bench, fault: Fault) -> None:
    journey = Journey(b.url, "distant", handlers=[distant])
    brought(b, paused=False)
    points = journey.points()
    assert figures(b) == (0, 0, 3, 0)

    for at in points:
        brought(b, paused=False)

        journey.disturbed(at, fault)

        where = f"{fault} at exchange {at} of {points}"
        assert figures(b) == (0, 0, 3, 0), where
        assert (len(b.waiting(_QUEUE)), attempts(b)) == (2, {1}), where
        assert pause.read_state(b.connection, "distant") is not None, where
        assert 1 <= len(told("called")) <= 2, where
        target_is_back(b)
        journey.goes_on()
        assert figures(b) == (3, 0, 0, 0), where


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_of_the_probe_loses_nothing_and_the_next_one_ends_the_pause(
    b: Bench, fault: Fault
) -> None:
    journey = Journey(b.url, "distant", handlers=[distant])
    brought(b, paused=True)
    points = journey.points()
    assert figures(b) == (3, 0, 0, 0)

    for at in points:
        brought(b, paused=True)

        journey.broken(at, fault)
        if pause.read_state(b.connection, "distant") is not None:
            target_is_back(b)  # the lease of a probe that died is over
        journey.goes_on()

        where = f"{fault} at exchange {at} of {points}"
        assert figures(b) == (3, 0, 0, 0), where
        assert pause.read_state(b.connection, "distant") is None, where
        assert len(told("called")) <= 1 + 3 + 1, f"{where}: more than what was in hands came again"
        assert b.leftovers() == set(), where
