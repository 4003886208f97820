"""A job whose runs fail as a whole, repeatedly: it delays no other, is split, and moves to the failures at the end."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from shared import keys, queues
from tests.integration.harness import HandlerTotals, Harness, open_harness, record, status, statuses
from tests.integration.runtime import injection
from tests.integration.runtime.injection import MARK
from tests.integration.runtime.test_isolation import OF_THE_JOB, OF_THE_LADDER
from tests.integration.scripted_handlers import script, single
from tests.redis_server import RedisServer
from workers.deliver.call.caller import Caller
from workers.deliver.prefetch import MAX_ITEMS, Prefetcher
from workers.deliver.settler import Settler
from workers.expand.fan_out import FanOutStep
from workers.failures import failed_jobs
from workers.runtime import job_transitions
from workers.runtime.claim import ClaimStep

# For each function, how many records or events move to the failures. If the job cannot be read to be split either, that
# is all of it. 0: coalesced jobs run alone from the second run on, the event is decoded alone, or is settled already.
IN_EXPAND = {
    "shared.batches:decode_callback": 3,
    "shared.queues:parse_arguments": 0,
    "shared.queues:_read_call": 3,
    "shared.queues:check_version": 3,
    "shared.queues:decompress": 0,
    "shared.queues:is_expand_job": 3,
    "shared.queues:unseal_call": 3,
    "shared.sealed_data:unseal": 3,
    "shared.queues:with_portions": 3,
    "workers.jobs:expand": 1,
    "workers.expand.fan_out:Chunk.add": 1,
    "workers.expand.expansion:Expander._fan_out_or_split": 1,
    "workers.expand.expansion:Expander._submit": 1,
    "workers.expand.expansion:Expander.run": 1,
    "workers.expand.record_reader:RecordReader._read_or_split": 1,
    "workers.expand.record_reader:RecordReader.read_items": 1,
    "workers.runtime.claim:ClaimStep._read_coalesced": 0,
    "workers.runtime.claim:ClaimStep.claim": 1,
}
IN_DELIVER = {
    "shared.queues:parse_arguments": 0,
    "shared.queues:_read_call": 4,
    "shared.queues:check_version": 4,
    "shared.queues:decompress": 0,
    "shared.queues:is_expand_job": 4,
    "shared.queues:unseal_call": 4,
    "shared.sealed_data:unseal": 4,
    "shared.queues:with_portions": 4,
    "shared.stored_events:StoredEvents.__init__": 0,
    "workers.jobs:deliver": 1,
    "workers.deliver.delivery:Deliverer._claim": 1,
    "workers.deliver.settler:Settler._decide": 1,
    "workers.deliver.delivery_log:Attempts.add_delivered": 1,
    "workers.deliver.settler:_Decisions.add_delivered": 1,
    "workers.deliver.delivery:Deliverer.run": 1,
    "workers.deliver.round:Round.mark_settled": 0,
    "workers.deliver.round:Round.settlements": 1,
    "workers.deliver.round:_read_events": 1,
    "workers.deliver.prefetch:Prefetcher.claim": 1,
    "workers.runtime.claim:ClaimStep._read_coalesced": 0,
    "workers.runtime.claim:ClaimStep.claim": 1,
}
# If this raises, nothing can move to the failures at all.
IN_MOVING_TO_FAILURES = "workers.runtime.settlement:append_list"


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    script.__init__()  # type: ignore[misc]
    monkeypatch.setattr(job_transitions, "MAX_WAIT_SECONDS", 0)
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 4)
    with open_harness(quick_redis.url, single) as made:
        yield made


def work(harness: Harness, stage: str) -> None:
    """Work until nothing is left to do: retries are due at once."""
    for _ in range(30):
        if stage == "expand":
            harness.expand()
        else:
            harness.deliver(single)
        queue = queues.EXPAND if stage == "expand" else "deliver-single"
        if not harness.connection.zcard(keys.rq_scheduled(queue)) and not harness.waiting_jobs(queue):
            return
        promote(harness)
    raise AssertionError("it does not end")


def promote(harness: Harness) -> None:
    keeper = harness.maintenance(single)
    keeper.tick([])
    keeper.close()


def test_every_function_that_test_isolation_leaves_out_is_tried_here() -> None:
    assert {*IN_EXPAND, *IN_DELIVER, IN_MOVING_TO_FAILURES} == OF_THE_JOB | OF_THE_LADDER


def keep(harness: Harness, *, first: bool) -> None:
    """Enqueue a callback that makes every run fail, in the first job or in one that is coalesced."""
    batches = [statuses(["1", MARK, "2"], bundle=1), statuses([str(n) for n in range(10, 20)], bundle=1)]
    for batch in batches if first else reversed(batches):
        harness.accept(*batch)
    harness.accept(*statuses([str(n) for n in range(20, 28)], bundle=4))


@pytest.mark.parametrize("function", IN_EXPAND)
@pytest.mark.parametrize("first", [True, False], ids=["first", "coalesced"])
def test_only_the_callback_that_makes_whole_runs_fail_is_quarantined(
    harness: Harness, function: str, first: bool
) -> None:
    keep(harness, first=first)

    with injection.raising(function, RecursionError):
        work(harness, "expand")

    sums = harness.audit()
    # If its job is coalesced, it is never the one whose whole arguments are read.
    quarantined = sums.quarantined
    assert quarantined == IN_EXPAND[function] or (not first and quarantined == 0)
    assert (sums.unique, sums.duplicate, sums.waiting, sums.balances) == (21 - quarantined, 0, 0, True)
    for entry in harness.quarantine():
        assert MARK in entry["body"]
        assert "RecursionError" in entry["traceback"]


@pytest.mark.parametrize("function", IN_DELIVER)
@pytest.mark.parametrize("first", [True, False], ids=["first", "coalesced"])
def test_only_the_event_that_makes_whole_runs_fail_is_a_dead_letter(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, function: str, first: bool
) -> None:
    monkeypatch.setattr(Prefetcher, "_prefetch_count", lambda _self: MAX_ITEMS)
    for ids in [["2", MARK, "3", "4"], ["0", "1"]][:: 1 if first else -1]:
        harness.accept(*statuses(ids))
        harness.expand()

    with injection.raising(function, MemoryError):
        work(harness, "deliver")

    dead = harness.totals(single).dead
    assert dead == IN_DELIVER[function] or (not first and dead == 0)
    assert harness.totals(single) == HandlerTotals(delivered=6 - dead, dead=dead)
    assert set(Counter(script.called).values()) == {1}, "none twice"
    for letter in harness.dead_letters("single"):
        assert MARK in letter["event"]
        assert "MemoryError" in letter["traceback"]


def test_a_job_that_cannot_move_to_the_failures_waits_and_delays_no_other(harness: Harness) -> None:
    keep(harness, first=True)

    with injection.raising(IN_MOVING_TO_FAILURES, ValueError):
        for _ in range(8):
            harness.expand()
            promote(harness)

    assert (harness.audit().unique, harness.audit().waiting, harness.audit().balances) == (19, 2, True)
    harness.expand()
    assert (harness.audit().unique, harness.audit().waiting, harness.audit().balances) == (21, 0, True)


@pytest.mark.parametrize(
    "data",
    [
        b"no JSON",
        b'["workers.jobs.expand",null,[],{}]',
        b'["workers.jobs.expand",null,[1],{}]',
        b'["workers.jobs.expand",null,[1,[]],{}]',
        b'["workers.jobs.expand",null,[1,{"a":1}],{}]',
        b'["workers.jobs.expand",null,[1,[["status","gw"]]],{}]',
        b'["workers.jobs.expand",null,["1",[]],{}]',
        b'["workers.jobs.unknown",null,[1,[]],{}]',
    ],
)
@pytest.mark.parametrize("index", [0, 1], ids=["first", "coalesced"])
def test_a_job_of_an_unknown_format_is_quarantined_whole(harness: Harness, data: bytes, index: int) -> None:
    for n in range(3):
        harness.accept(status(record(f"{n}a"), record(f"{n}b")))
    harness.connection.hset(keys.job(harness.waiting_jobs(queues.EXPAND)[index]), "data", data)

    work(harness, "expand")

    sums = harness.audit()
    assert (sums.unique, sums.quarantined, sums.waiting, sums.balances) == (4, 2, 0, True)
    (entry,) = harness.quarantine()
    assert (entry["body"], entry["records"], entry["kind"]) == (data.decode(), "2", "")
    assert entry["traceback"]


@pytest.mark.parametrize(
    "data",
    [
        b"no JSON",
        b'["workers.jobs.deliver",null,[1,"single"],{}]',
        b'["workers.jobs.deliver",null,[1,"single",1,[]],{}]',
    ],
)
@pytest.mark.parametrize("index", [0, 1], ids=["first", "coalesced"])
def test_a_delivery_of_an_unknown_format_is_one_dead_letter_that_can_be_dropped(
    harness: Harness, data: bytes, index: int
) -> None:
    for n in range(3):
        harness.accept(status(record(f"{n}a"), record(f"{n}b")))
        harness.expand()
    harness.connection.hset(keys.job(harness.waiting_jobs("deliver-single")[index]), "data", data)

    work(harness, "deliver")

    assert harness.totals(single) == HandlerTotals(delivered=4, dead=2)
    (letter,) = harness.dead_letters("single")
    assert letter["event"] == data.decode()
    assert harness.audit().balances


def test_an_unreadable_event_is_a_dead_letter_and_the_others_are_delivered(harness: Harness) -> None:
    harness.accept(*statuses(["1", "2", "3"]))
    harness.expand()
    (job_id,) = harness.waiting_jobs("deliver-single")
    function, instance, (version, name, attempt, events), options = json.loads(
        harness.connection.hget(keys.job(job_id), "data")
    )
    events[1] = events[1][:5]
    data = json.dumps([function, instance, [version, name, attempt, events], options])
    harness.connection.hset(keys.job(job_id), "data", data)

    harness.deliver(single)

    assert script.called == ["1", "3"]
    assert harness.totals(single) == HandlerTotals(delivered=2, dead=1)
    (letter,) = harness.dead_letters("single")
    assert json.loads(letter["event"]) == events[1]
    assert "ValidationError" in letter["traceback"]
    assert harness.counters()["report.dead:single"] == 1


def test_a_job_of_a_newer_release_waits_for_that_release(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.accept(status(record("2")))
    _, newer = harness.waiting_jobs(queues.EXPAND)
    harness.connection.hset(keys.job(newer), "data", queues.encode_call(queues.EXPAND_JOB, (2, {"of": "tomorrow"})))

    for _ in range(10):
        harness.expand()
        promote(harness)

    assert int(harness.connection.hget(keys.job(newer), "failures")) > failed_jobs.MAX_FAILURES
    assert (harness.audit().unique, harness.audit().waiting, harness.audit().quarantined) == (1, 1, 0)


def test_each_wait_is_longer_than_the_one_before_up_to_a_minute(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_transitions, "MAX_WAIT_SECONDS", 60)
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 99)
    monkeypatch.setattr(job_transitions, "time", FixedTime)
    harness.accept(status(record(MARK)))
    waits: list[float] = []
    with injection.raising("workers.expand.expansion:Expander.run", ValueError):
        for _ in range(6):
            harness.expand()
            ((job_id, due),) = harness.connection.zrange(keys.rq_scheduled(queues.EXPAND), 0, -1, withscores=True)
            waits.append(due - FixedTime.time())
            harness.connection.zadd(keys.rq_scheduled(queues.EXPAND), {job_id: 0})
            promote(harness)

    assert waits == [1, 4, 16, 60, 60, 60]


class FixedTime:
    """A clock that a test sets."""

    @staticmethod
    def time() -> float:
        return 1_800_000_000.0


def test_a_job_that_makes_progress_starts_the_ladder_again(harness: Harness) -> None:
    harness.accept(*statuses([str(n) for n in range(3)], bundle=1))
    (job_id,) = harness.waiting_jobs(queues.EXPAND)
    harness.connection.hset(keys.job(job_id), "failures", 3)
    claimed: list[Any] = []
    claim = ClaimStep.claim

    def recorded(self: ClaimStep, **options: Any) -> Any:
        claimed.extend(claim(self, **options))
        return claimed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClaimStep, "claim", recorded)
        harness.expand()

    assert [job.job_id for job in claimed] == [job_id]
    assert harness.audit().unique == 3


def test_while_redis_is_unavailable_no_failure_is_counted(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.accept(status(record("1")))
    (job_id,) = harness.waiting_jobs(queues.EXPAND)
    fan_out = FanOutStep.fan_out
    refused: list[float] = []

    def away(self: FanOutStep, **options: Any) -> Any:
        if not refused:
            refused.append(time.monotonic())
            assert harness.connection.hget(keys.job(job_id), "failures") is None
            raise redis.ConnectionError("cut")
        assert harness.connection.hget(keys.job(job_id), "failures") is None
        return fan_out(self, **options)

    monkeypatch.setattr(FanOutStep, "fan_out", away)

    harness.expand()

    assert (harness.audit().unique, harness.audit().quarantined, harness.audit().waiting) == (1, 0, 0)


def test_a_fault_after_a_settlement_counts_nothing_twice(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.accept(*statuses(["1", "2"]))
    harness.expand()
    faults = iter([RuntimeError])

    def report(_settler: Settler, _decisions: Any) -> None:
        for fault in faults:
            raise fault

    monkeypatch.setattr(Settler, "_report", report)
    work(harness, "deliver")

    assert harness.totals(single) == HandlerTotals(delivered=2)
    assert harness.audit().balances
    assert sorted(script.called) == ["1", "2"]


def test_a_fault_that_no_event_causes_makes_no_dead_letters(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.accept(*statuses([str(number) for number in range(30)]))
    harness.expand()
    with monkeypatch.context() as broken:

        def run(*_arguments: Any, **_options: Any) -> Any:
            raise RuntimeError("can't start new thread")

        broken.setattr(Caller, "call", run)
        harness.deliver(single)

    assert harness.dead_letters("single") == []
    promote(harness)
    work(harness, "deliver")
    assert harness.totals(single) == HandlerTotals(delivered=30)
