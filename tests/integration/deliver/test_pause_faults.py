"""A pause, and the probe that ends it, with a fault at every exchange with Redis: no event and no attempt is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration import faults, recorders
from tests.integration.deliver.pausing_handlers import distant, recorded_lines, unavailable_file
from tests.integration.faults import Fault, StageRun
from tests.integration.harness import Harness, open_harness, record, status
from tests.redis_server import RedisServer
from workers.runtime import pause

_QUEUE = "deliver-distant"


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Harness]:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    faults.check_at_once(monkeypatch)
    with open_harness(quick_redis.url, distant) as made:
        yield made


def accept_and_expand(harness: Harness, *, paused: bool) -> None:
    """Enqueue three events, in two jobs; `paused`: the handler's pause is over, and its target is back."""
    harness.connection.flushall()
    Path(f"{unavailable_file()}".removesuffix(".unavailable")).unlink(missing_ok=True)
    unavailable_file().write_text("600")
    for records in ([record("1"), record("2")], [record("3")]):
        harness.accept(status(*records))
        harness.expand()
    if paused:
        harness.deliver(distant)
        target_is_back(harness)


def target_is_back(harness: Harness) -> None:
    unavailable_file().unlink(missing_ok=True)
    harness.connection.hset(keys.paused("distant"), "until_ms", 1)


def totals(harness: Harness) -> tuple[int, int, int, int]:
    (found,) = harness.audit().handlers
    return found.delivered, found.dead, found.waiting, found.missing


def attempts(harness: Harness) -> set[int]:
    return {
        queues.parse_arguments(harness.connection.hget(keys.job(job), "data"))[2]
        for job in harness.waiting_jobs(_QUEUE)
    }


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_of_a_pause_loses_no_event_and_no_attempt(harness: Harness, fault: Fault) -> None:
    stage_run = StageRun(harness.url, "distant", handlers=[distant])
    accept_and_expand(harness, paused=False)
    fault_points = stage_run.fault_points()
    assert totals(harness) == (0, 0, 3, 0)

    for at in faults.points_to_try(fault_points, fault):
        accept_and_expand(harness, paused=False)

        stage_run.run_with_fault_and_rerun(at, fault)

        where = f"{fault} at exchange {at} of {fault_points}"
        assert totals(harness) == (0, 0, 3, 0), where
        assert (len(harness.waiting_jobs(_QUEUE)), attempts(harness)) == (2, {1}), where
        assert pause.read_state(harness.connection, "distant") is not None, where
        assert 1 <= len(recorded_lines("called")) <= 2, where
        target_is_back(harness)
        stage_run.run()
        assert totals(harness) == (3, 0, 0, 0), where


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_of_the_probe_loses_nothing_and_the_next_one_ends_the_pause(
    harness: Harness, fault: Fault
) -> None:
    stage_run = StageRun(harness.url, "distant", handlers=[distant])
    accept_and_expand(harness, paused=True)
    fault_points = stage_run.fault_points()
    assert totals(harness) == (3, 0, 0, 0)

    for at in faults.points_to_try(fault_points, fault):
        accept_and_expand(harness, paused=True)

        stage_run.run_with_fault(at, fault)
        if pause.read_state(harness.connection, "distant") is not None:
            target_is_back(harness)  # the lease of a probe that died is over
        stage_run.run()

        where = f"{fault} at exchange {at} of {fault_points}"
        assert totals(harness) == (3, 0, 0, 0), where
        assert pause.read_state(harness.connection, "distant") is None, where
        assert len(recorded_lines("called")) <= 1 + 3 + 1, f"{where}: more than what was in hands came again"
        assert harness.leftover_keys() == set(), where
