"""A busy worker claims again inside its run, after the cooldown: no job waits for the next run, none is done twice."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callbacks import ReportEvent, handler
from shared import keys, queues
from tests.integration import faults, recorders
from tests.integration.faults import Fault, StageRun
from tests.integration.harness import HandlerTotals, Harness, open_harness, record, status, statuses
from tests.redis_server import RedisServer
from workers import jobs
from workers.expand import expansion, forgotten
from workers.runtime import cooldown
from workers.runtime.claim import ClaimedJob, ClaimStep

NUMBER = "35699777123"
# With these a round has two jobs of two events, or three of one.
EXPAND_ITEMS = 4
DELIVER_ITEMS = 3


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, recorders.single) as made:
        yield made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The job of each run of the expander, in order."""
    found: list[str] = []
    running_job = jobs._running_job

    def record_run() -> Any:
        job = running_job()
        found.append(job.id)
        return job

    monkeypatch.setattr(jobs, "_running_job", record_run)
    return found


def accept_jobs(harness: Harness, number: int) -> None:
    """Commit jobs of two reports each; every report stands in two neighbouring jobs."""
    for job in range(number):
        harness.accept(status(record(str(job)), record(str(job + 1))))


def test_what_waits_is_claimed_by_the_run_that_is_in_progress(
    harness: Harness, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "MAX_ITEMS", EXPAND_ITEMS)
    accept_jobs(harness, 6)
    first, *_ = harness.waiting_jobs(queues.EXPAND)

    harness.expand()

    assert runs == [first]
    sums = harness.audit()
    assert (sums.unique, sums.duplicate, sums.waiting, sums.balances) == (7, 5, 0, True)


def test_a_run_ends_with_a_round_of_one_job(harness: Harness, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MAX_ITEMS", 2)
    accept_jobs(harness, 3)
    waiting = harness.waiting_jobs(queues.EXPAND)

    harness.expand()

    assert runs == waiting


def test_a_run_ends_after_its_time(harness: Harness, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MAX_ITEMS", EXPAND_ITEMS)
    monkeypatch.setattr(cooldown, "MAX_RUN_SECONDS", 0.0)
    accept_jobs(harness, 6)
    waiting = harness.waiting_jobs(queues.EXPAND)

    harness.expand()

    assert runs == waiting[::2]


def test_a_round_begins_when_the_cooldown_since_the_last_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: now, sleep=waits.append)
    monkeypatch.setattr(cooldown, "time", clock)
    settled = [ClaimedJob("a", "0", [], coalesced=False), ClaimedJob("b", "0", [], coalesced=True)]
    rounds = cooldown.rounds(lambda: settled, lambda: settled, is_stopping=lambda: False)
    assert next(rounds) == settled

    now += cooldown.COOLDOWN_SECONDS / 4
    assert next(rounds) == settled
    now += cooldown.COOLDOWN_SECONDS * 2
    assert next(rounds) == settled

    assert waits == [pytest.approx(cooldown.COOLDOWN_SECONDS * 3 / 4), 0.0]


def test_a_worker_that_is_to_stop_begins_no_round(harness: Harness) -> None:
    called: list[str] = []

    @handler(ReportEvent)
    def counts(event: ReportEvent) -> None:
        called.append(event.message_id)
        if event.message_id == "2":
            made.connection.rpush(keys.rq_queue("deliver-counts"), late)

    with open_harness(harness.url, counts) as made:
        for number in range(4):
            made.accept(status(record(str(number))))
            made.expand()
        late = made.waiting_jobs("deliver-counts")[-1]
        made.connection.lrem(keys.rq_queue("deliver-counts"), 1, late)

        # Its first run has one job, as nobody knows how fast the handler is.
        made.deliver(counts, stop_when=lambda: len(called) == 3, max_jobs=2)

        assert called == ["0", "1", "2"]
        assert made.waiting_jobs("deliver-counts") == [late]
        made.deliver(counts)
        assert made.totals(counts) == HandlerTotals(delivered=4)


def test_each_round_asks_which_numbers_are_forgotten(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MAX_ITEMS", EXPAND_ITEMS)
    for job in range(4):
        harness.accept(status(record(str(job)), record(f"of a person, {job}", to=NUMBER)))
    claim_more = ClaimStep.claim_more

    def forget(self: ClaimStep, **arguments: Any) -> list[ClaimedJob]:
        forgotten.remember(harness.connection, [NUMBER], seconds=60)
        return claim_more(self, **arguments)

    monkeypatch.setattr(ClaimStep, "claim_more", forget)

    harness.expand()

    sums = harness.audit()
    assert (sums.unique, sums.forgotten, sums.balances) == (6, 2, True)


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_in_any_round_of_expand_loses_and_doubles_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    faults.check_at_once(monkeypatch)
    stage_run = StageRun(harness.url, "expand", handlers=[recorders.single], max_items=EXPAND_ITEMS)
    accept_jobs(harness, 6)
    fault_points = stage_run.fault_points()
    for at in faults.points_to_try(fault_points, fault):
        harness.connection.flushall()
        accept_jobs(harness, 6)

        stage_run.run_with_fault_and_rerun(at, fault)

        where = f"{fault} at exchange {at} of {fault_points}"
        assert sorted(Counter(harness.waiting_event_ids(recorders.single)).values()) == [1] * 7, where
        sums = harness.audit()
        assert (sums.received, sums.unique, sums.duplicate, sums.waiting, sums.balances) == (12, 7, 5, 0, True), where


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_in_any_round_of_deliver_repeats_only_what_was_in_flight(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Fault
) -> None:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    faults.check_at_once(monkeypatch)

    def prepare() -> None:
        harness.connection.flushall()
        Path(os.environ[recorders.VARIABLE]).unlink(missing_ok=True)
        for number in range(10):
            harness.accept(*statuses([str(number)]))
            harness.expand()

    stage_run = StageRun(harness.url, "single", handlers=[recorders.single], max_items=DELIVER_ITEMS)
    prepare()
    fault_points = stage_run.fault_points()
    for at in faults.points_to_try(fault_points, fault):
        prepare()

        stage_run.run_with_fault_and_rerun(at, fault)

        where = f"{fault} at exchange {at} of {fault_points}"
        assert harness.totals("single") == HandlerTotals(delivered=10), where
        assert harness.leftover_keys() == set(), where
        called = recorders.calls("single")
        assert len(called) == 10, where
        assert sum(called.values()) <= 11, f"{where}: a worker that calls one event at a time repeats no more than that"
