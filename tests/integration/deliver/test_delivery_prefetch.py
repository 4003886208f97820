"""A run in progress claims more of what waits: a slow call delays no other event, and nothing is lost by it."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from callbacks import Pause, ReportEvent, handler
from shared import keys, queues
from tests.integration import faults, recorders
from tests.integration.faults import Fault, StageRun
from tests.integration.harness import HandlerTotals, Harness, declaration_of, open_harness, record, status, statuses
from tests.redis_server import RedisServer
from workers.deliver import delivery, prefetch

# A run starts with eight events for each concurrent call.
AT_FIRST = 8 * 4
WORKER = "somebody"


class Calls:
    """What the handler of these tests was called with, and what it does then."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.last = ""
        self.was_called = asyncio.Event()
        self.act: Callable[[str], None] = lambda _message_id: None


calls = Calls()


@handler(ReportEvent, concurrency=4, attempts=2, timeout_seconds=60)
async def waits(event: ReportEvent) -> None:
    """Wait in the first event until the last one has been called."""
    calls.made.append(event.message_id)
    calls.act(event.message_id)
    if event.message_id == calls.last:
        calls.was_called.set()
    elif event.message_id == "0":
        await calls.was_called.wait()


@handler(ReportEvent, concurrency=2, timeout_seconds=0.2)
async def stays(event: ReportEvent) -> None:
    """Do nothing."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    calls.__init__()  # type: ignore[misc]
    with open_harness(quick_redis.url, waits) as made:
        yield made


def accept_and_expand(harness: Harness, *message_ids: str) -> None:
    """Enqueue each of these events in a job of its own."""
    for message_id in message_ids:
        harness.accept(*statuses([message_id]))
        harness.expand()


def test_a_slow_call_does_not_delay_the_jobs_behind_its_run(harness: Harness, runs: list[str]) -> None:
    calls.last = "40"
    accept_and_expand(harness, *(str(n) for n in range(41)))

    harness.deliver(waits)

    assert sorted(calls.made, key=int) == [str(n) for n in range(41)], "each was called once"
    assert harness.totals(waits) == HandlerTotals(delivered=41)
    assert len(runs) == 1
    assert harness.leftover_keys() == set()


def test_events_that_arrive_during_a_slow_call_are_claimed_although_no_other_call_ends(harness: Harness) -> None:
    calls.last = "1"
    accept_and_expand(harness, "0", "1")
    (late,) = harness.waiting_jobs("deliver-waits")[1:]
    harness.connection.lrem(keys.rq_queue("deliver-waits"), 1, late)

    def come_later(message_id: str) -> None:
        if message_id == "0":
            asyncio.get_running_loop().call_later(0.3, harness.connection.rpush, keys.rq_queue("deliver-waits"), late)

    calls.act = come_later

    harness.deliver(waits)

    assert calls.made == ["0", "1"]
    assert harness.totals(waits) == HandlerTotals(delivered=2)


def test_a_round_claims_no_more_than_its_limit(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "MAX_ITEMS", 36)
    calls.last = "35"
    accept_and_expand(harness, *(str(n) for n in range(50)))
    waiting: list[int] = []
    calls.act = lambda _message_id: waiting.append(len(harness.waiting_jobs("deliver-waits")))

    harness.deliver(waits)

    assert min(waiting[:36]) == 50 - 36
    assert harness.totals(waits) == HandlerTotals(delivered=50)


def test_a_worker_that_is_to_stop_claims_no_more(harness: Harness) -> None:
    accept_and_expand(harness, *(str(n) for n in range(50)))
    calls.last = "10"

    harness.deliver(waits, stop_when=lambda: "31" in calls.made, max_jobs=1)

    assert len(calls.made) == AT_FIRST
    assert harness.totals(waits) == HandlerTotals(delivered=AT_FIRST, waiting=50 - AT_FIRST)


def test_a_paused_handler_claims_no_more(harness: Harness) -> None:
    asked: list[str] = []
    paused = asyncio.Event()

    @handler(ReportEvent, concurrency=4)
    async def pauses(event: ReportEvent) -> Pause | None:
        asked.append(event.message_id)
        if event.message_id == "31":
            paused.set()
            return Pause(600, "enough")
        if event.message_id in ("0", "29", "30"):
            await paused.wait()  # so that no hand is free, and nothing more is taken, before that
        if event.message_id == "0":
            await asyncio.sleep(0.3)  # there is time to take more
        return None

    with open_harness(harness.url, pauses) as made:
        accept_and_expand(made, *(str(n) for n in range(50)))

        made.deliver(pauses, max_jobs=1)

        assert len(asked) == AT_FIRST
        assert made.totals(pauses) == HandlerTotals(delivered=AT_FIRST - 1, waiting=50 - AT_FIRST + 1)


def test_events_in_flight_are_not_called_again_when_redis_falls_back_to_before_their_claim(harness: Harness) -> None:
    called: list[str] = []

    @handler(ReportEvent, concurrency=4)
    async def falls_back(event: ReportEvent) -> None:
        called.append(event.message_id)
        if event.message_id == "1":
            made.connection.lmove(keys.coalesced(first), keys.rq_queue("deliver-falls_back"), "RIGHT", "LEFT")
        await asyncio.sleep(0.3)

    with open_harness(harness.url, falls_back) as made:
        accept_and_expand(made, "0", "1")
        first, _ = made.waiting_jobs("deliver-falls_back")

        made.deliver(falls_back)

        assert called == ["0", "1"]
        assert made.totals(falls_back) == HandlerTotals(delivered=2)
        assert made.leftover_keys() == set()


@pytest.mark.parametrize("key", ["its queue", "the run's list"])
def test_events_settled_before_redis_fell_back_are_repeated_by_the_next_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(delivery, "_SETTLE_SECONDS", 0.0)
    called: list[str] = []

    @handler(ReportEvent, concurrency=4)
    async def falls_back(event: ReportEvent) -> None:
        called.append(event.message_id)
        if event.message_id == "0":
            while made.connection.exists(keys.job(second)):  # noqa: ASYNC110 # Redis knows when it is settled
                await asyncio.sleep(0.01)
            made.connection.restore(keys.job(second), 0, before)
            made.connection.rpush(
                keys.rq_queue("deliver-falls_back") if key == "its queue" else keys.coalesced(first), second
            )
            await asyncio.sleep(0.3)

    with open_harness(harness.url, falls_back) as made:
        accept_and_expand(made, "0", "1")
        first, second = made.waiting_jobs("deliver-falls_back")
        before = made.connection.dump(keys.job(second))

        made.deliver(falls_back)

        assert called == ["0", "1", "1"]
        assert made.leftover_keys() == set()


def test_what_is_done_is_settled_while_a_call_is_slow(harness: Harness) -> None:
    settled: list[int] = []

    @handler(ReportEvent, concurrency=4)
    async def slow(event: ReportEvent) -> None:
        while event.message_id == "0" and not settled:
            await asyncio.sleep(0.01)
            settled.extend(filter(None, [made.totals(slow).delivered]))

    with open_harness(harness.url, slow) as made:
        accept_and_expand(made, "0", "1")

        made.deliver(slow)

        assert settled == [1]


def test_a_worker_that_cannot_end_a_call_dies_although_it_prefetches(harness: Harness) -> None:
    with open_harness(harness.url, stays) as made:
        accept_and_expand(made, "0")
        (job,) = made.waiting_jobs("deliver-stays")
        stage_run = StageRun(harness.url, "stays", handlers=[stays])

        worker = stage_run.start()
        faults.join_all([worker])

        assert worker.exitcode == 1
        stage_run.requeue_leftovers(worker.name)
        assert made.waiting_jobs("deliver-stays") == [job]


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_with_redis_loses_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Fault
) -> None:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    faults.check_at_once(monkeypatch)
    orders = ("sleeps:0.2", *[""] * 9)

    def prepare() -> None:
        harness.connection.flushall()
        Path(os.environ[recorders.VARIABLE]).unlink(missing_ok=True)
        with open_harness(harness.url, *recorders.ALL) as made:
            for job in range(5):
                records = [record(f"{job}-{n}", client_message_id=order) for n, order in enumerate(orders)]
                made.accept(status(*records))
                made.expand()

    stage_run = StageRun(harness.url, "several")
    prepare()
    for at in faults.points_to_try(stage_run.fault_points(), fault):
        prepare()

        stage_run.run_with_fault_and_rerun(at, fault)

        where = f"{fault} at exchange {at}"
        called = recorders.calls("several")
        assert len(called) == 50, where
        assert harness.totals(recorders.several) == HandlerTotals(delivered=50), where
        assert called.total() - 50 <= (declaration_of(recorders.several).concurrency if fault == "killed" else 0), where
        coalesced = list(harness.connection.scan_iter(match=f"{keys.COALESCED_PREFIX}*"))
        assert coalesced == [], where
        assert harness.waiting_jobs(queues.delivery_queue("several")) == [], where
