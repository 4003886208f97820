"""Delivery with faults: killed in a handler or between, disconnected from Redis, overtaken. No event is lost, and none
is handed over twice but those that a killed process had in hands."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis

from callbacks import ReportEvent, handler
from shared import keys, queues
from tests.integration import faults, recorders
from tests.integration.faults import Fault, StageRun
from tests.integration.harness import HandlerTotals, Harness, declaration_of, open_harness, record, status, statuses
from tests.redis_server import RedisServer
from workers.deliver import delivery, settle
from workers.runtime import redis_retry

_WAIT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _calls_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    faults.check_at_once(monkeypatch)


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, *recorders.ALL) as made:
        yield made


def accept_and_expand(harness: Harness, *orders: str) -> None:
    """Enqueue an event for each of these orders for each handler, in one job."""
    harness.accept(status(*(record(str(n), client_message_id=order) for n, order in enumerate(orders))))
    harness.expand()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def left_at(harness: Harness, name: str) -> set[str]:
    """Return the keys that are left of the jobs of one handler."""
    others = {other for other in recorders.NAMED if other != name}
    expected = {keys.rq_queue(queues.delivery_queue(other)) for other in others}
    expected |= {keys.job(job_id) for other in others for job_id in harness.waiting_jobs(queues.delivery_queue(other))}
    return harness.leftover_keys() - expected


def retried(harness: Harness, name: str) -> set[str]:
    """Return the ids of the events that wait for a retry."""
    ids = harness.connection.zrange(keys.rq_scheduled(queues.delivery_queue(name)), 0, -1)
    return {
        msgspec.json.decode(event)[1]
        for job_id in ids
        for event in queues.parse_arguments(harness.connection.hget(keys.job(job_id.decode()), "data"))[3]
    }


@pytest.mark.parametrize(
    ("name", "fault"),
    [("single", "killed"), ("single", "unsent"), ("single", "lost"), ("whole", "killed"), ("several", "killed")],
)
def test_a_fault_at_any_exchange_with_redis_loses_nothing(harness: Harness, name: str, fault: Fault) -> None:
    def prepare() -> None:
        harness.connection.flushall()
        Path(os.environ[recorders.VARIABLE]).unlink(missing_ok=True)
        accept_and_expand(harness, "", "fails", "rejects", "")
        harness.accept(*statuses(["8", "9"]))
        harness.expand()

    stage_run = StageRun(harness.url, name)
    prepare()
    fault_points = stage_run.fault_points()
    undisturbed = recorders.calls(name)
    expected = HandlerTotals(delivered=4, dead=1, waiting=1)
    assert harness.totals(name) == expected

    # Each point meets a kill with one of the handlers.
    turn = ["single", "whole", "several"].index(name)
    for at in faults.points_to_try(fault_points, fault, turn=turn):
        prepare()

        stage_run.run_with_fault_and_rerun(at, fault)

        where = f"{fault} at exchange {at} of {fault_points}"
        assert harness.totals(name) == expected, where
        assert harness.connection.zcard(keys.rq_scheduled(queues.delivery_queue(name))) == 1, where
        assert len(harness.dead_letters(name)) == 1, where
        assert len(left_at(harness, name)) == 2, f"{where}: more than the retry and its place"
        calls = recorders.calls(name)
        assert calls.keys() == undisturbed.keys(), where
        if fault != "killed":
            assert calls == undisturbed, f"{where}: no process died, so nobody is called twice"
        dead = {json.loads(letter["event"])[1] for letter in harness.dead_letters(name)}
        done = calls.keys() - dead - retried(harness, name)
        assert len(done) == 4
        if name != "several":  # of which some may be in hands that are done at the next run
            assert all(calls[event] <= undisturbed[event] for event in done), f"{where}: what was done came again"
        again = {event: calls[event] - undisturbed[event] for event in calls if calls[event] > undisturbed[event]}
        assert sum(again.values()) <= declaration_of(recorders.NAMED[name]).concurrency, (
            f"{where}: more than was in hands"
        )


def test_a_process_killed_in_its_handler_repeats_that_event_alone(harness: Harness) -> None:
    accept_and_expand(harness, "sleeps:0.3", "sleeps:0.3", "kills", "", "")
    stage_run = StageRun(harness.url, "single")

    stage_run.run_with_fault_and_rerun(0, "killed")

    assert sorted(recorders.calls("single").values()) == [1, 1, 1, 1, 2]
    assert harness.totals("single") == HandlerTotals(delivered=5)
    assert left_at(harness, "single") == set()


def test_events_that_a_killed_process_had_just_finished_are_not_repeated(harness: Harness) -> None:
    for n in range(3):
        harness.accept(*statuses([f"{n}-{m}" for m in range(100)], bundle=100))
    harness.accept(*statuses(["last"], client_message_id="kills"))
    harness.expand()
    stage_run = StageRun(harness.url, "single")

    stage_run.run_with_fault(0, "killed")
    assert harness.totals("single").delivered < 301, "some of it was not settled"
    stage_run.run()

    assert sorted(recorders.calls("single").values()) == [1] * 300 + [2]
    assert harness.totals("single") == HandlerTotals(delivered=301)
    assert left_at(harness, "single") == set()


def test_finished_events_are_not_repeated_when_the_next_process_dies_at_once_too(harness: Harness) -> None:
    def prepare() -> None:
        harness.connection.flushall()
        Path(os.environ[recorders.VARIABLE]).unlink(missing_ok=True)
        accept_and_expand(harness, "", "", "kills", "")
        stage_run.run_with_fault(0, "killed")

    stage_run = StageRun(harness.url, "single")
    prepare()
    for at in stage_run.fault_points():
        prepare()

        stage_run.run_with_fault(at, "killed")
        stage_run.run()

        assert sorted(recorders.calls("single").values()) == [1, 1, 1, 2], f"killed again at exchange {at}"
        assert harness.totals("single") == HandlerTotals(delivered=4)


def test_a_slow_first_event_of_a_killed_process_does_not_repeat_the_others(harness: Harness) -> None:
    accept_and_expand(harness, "sleeps:20", *["sleeps:0.05"] * 30)
    stage_run = StageRun(harness.url, "several")
    process = stage_run.start()
    until(lambda: harness.totals("several").delivered >= 20)

    stage_run.killed(process)

    delivered = harness.totals("several").delivered
    assert harness.totals("several") == HandlerTotals(delivered=delivered, waiting=31 - delivered), (
        "only these come again"
    )
    assert recorders.total() - delivered < 20, "the slow one, and what was done in the last moment"


def test_jobs_coalesced_by_a_killed_process_are_run_next(harness: Harness) -> None:
    accept_and_expand(harness, "")
    for n in range(5):
        harness.accept(*statuses([f"{n}-{m}" for m in range(4)], client_message_id="kills" if n == 2 else ""))
        harness.expand()

    stage_run = StageRun(harness.url, "single")
    for _ in range(4):
        stage_run.run_with_fault(0, "killed")
    stage_run.run()

    calls = recorders.calls("single")
    assert len(calls) == 21
    assert sorted(calls.values()) == [1] * 17 + [2] * 4, "nothing but what killed comes again"
    assert harness.totals("single") == HandlerTotals(delivered=21)
    assert left_at(harness, "single") == set()


def test_two_processes_share_the_work_of_a_handler(harness: Harness) -> None:
    harness.accept(*statuses([str(n) for n in range(3000)], bundle=100))
    harness.expand()

    stage_run = StageRun(harness.url, "single")
    faults.join_all([stage_run.start(), stage_run.start()])

    assert set(recorders.calls("single").values()) == {1}
    assert harness.totals("single") == HandlerTotals(delivered=3000)


def test_a_run_whose_job_another_worker_owns_stops_calling(quick_redis: RedisServer) -> None:
    called: list[str] = []

    @handler(ReportEvent)
    def overtaken(event: ReportEvent) -> None:
        called.append(event.message_id)
        time.sleep(0.3)  # longer than what is left unsettled
        if len(called) == 1:
            (member,) = made.connection.zrange(keys.rq_started("deliver-overtaken"), 0, -1)
            made.connection.hset(keys.job(member.decode().partition(":")[0]), "progress", "3")

    with open_harness(quick_redis.url, overtaken) as made:
        made.accept(*statuses(["1", "2", "3", "4"]))
        made.expand()

        made.deliver(overtaken)

    assert called == ["1", "4"], "what the other run has settled is its own"


def test_a_settlement_that_is_sent_twice_counts_once(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(call: Callable[[], Any], **_: Any) -> Any:
        call()  # carried out, and its answer lost
        return call()

    monkeypatch.setattr(settle, "retry_while_unavailable", twice)
    monkeypatch.setattr(delivery, "_SETTLE_SECONDS", 0.0)
    accept_and_expand(harness, *["sleeps:0.01", "sleeps:0.03"] * 10, "rejects", "fails")

    harness.deliver(recorders.several)

    assert set(recorders.calls("several").values()) == {1}
    assert harness.totals("several") == HandlerTotals(delivered=20, dead=1, waiting=1)
    assert harness.connection.zcard(keys.rq_scheduled("deliver-several")) == 1


@pytest.mark.parametrize("refusal", ["NOREPLICAS", "READONLY"])
def test_while_redis_refuses_to_write_no_event_is_called_twice(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    called: list[str] = []

    @handler(ReportEvent)
    def waits_for_redis(event: ReportEvent) -> None:
        called.append(event.message_id)
        if refusal == "NOREPLICAS":
            admin.config_set("min-replicas-to-write", "1")
        else:
            admin.replicaof("127.0.0.1", "1")

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            admin.config_set("min-replicas-to-write", "0")
            admin.replicaof("NO", "ONE")

    pauses: list[float] = []
    monkeypatch.setattr(redis_retry, "time", SimpleNamespace(sleep=sleep))
    server = start_redis({"appendonly": "no"})
    with open_harness(server.url, waits_for_redis) as harness, redis.Redis.from_url(server.url) as admin:
        harness.accept(*statuses(["1"]))
        harness.expand()

        harness.deliver(waits_for_redis)

        assert called == ["1"]
        assert len(pauses) >= 3
        assert harness.totals("waits_for_redis") == HandlerTotals(delivered=1)
