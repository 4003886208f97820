"""Pauses and lifespans in real worker processes, some of which are killed. No durations are asserted."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys
from tests.integration import recorders
from tests.integration.deliver import pausing_handlers
from tests.integration.deliver.pausing_handlers import (
    DISTANT_SECONDS,
    connecting,
    distant,
    opening,
    recorded_lines,
    release_file,
    unavailable_file,
    unready,
)
from tests.integration.harness import HandlerTotals, Harness, declaration_of, open_harness, record, status, statuses
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer
from workers.runtime import pause

Start = Callable[..., Command]


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Harness]:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    with open_harness(quick_redis.url, distant, opening, connecting, unready) as made:
        yield made


@pytest.fixture
def start(harness: Harness, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(function: Callable[..., object], processes: int = 1) -> Command:
            words = ("deliver", "--handler", declaration_of(function).name, "--processes", str(processes))
            command = Command(harness, tmp_path / "log", *words, CALLBACKS_HANDLERS=pausing_handlers.__name__)
            stack.callback(command.end)
            return command

        yield start


def accept_and_expand_each(harness: Harness, *orders: str) -> None:
    """Enqueue an event for each of these orders, each in a job of its own."""
    for n, order in enumerate(orders, 1):
        harness.accept(status(record(str(n), client_message_id=order)))
        harness.expand()


def is_paused(harness: Harness, *, times: int = 1) -> bool:
    found = pause.read_state(harness.connection, "distant")
    return found is not None and found.times >= times


def over(harness: Harness) -> None:
    harness.connection.hset(keys.paused("distant"), "until_ms", 1)


def cpu_ticks(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def test_all_processes_wait_and_only_one_tries_one_event(harness: Harness, start: Start) -> None:
    unavailable_file().write_text("600")
    command = start(distant, 3)
    until(
        lambda: harness.connection.scard("rq:workers:deliver-distant") == 3,
        "they are there: none comes after the pause",
    )
    accept_and_expand_each(harness, *["waits"] * 9)
    until(lambda: len(recorded_lines("called")) == 3, "each has one in hands")
    release_file().touch()
    until(
        lambda: is_paused(harness) and not harness.connection.zcard(keys.rq_started("deliver-distant")),
        "all have stopped",
    )
    before = len(recorded_lines("called"))
    assert len({process for process, _ in recorded_lines("called")}) == before == 3, (
        "those that were under way, and no more"
    )

    over(harness)
    until(lambda: len(recorded_lines("called")) > before, "somebody tries")
    until(lambda: is_paused(harness, times=2), "in vain")
    assert len(recorded_lines("called")) == before + 1, "the others have waited"

    release_file().unlink()
    over(harness)
    until(lambda: len(recorded_lines("called")) > before + 1, "somebody tries again")
    unavailable_file().unlink()
    release_file().touch()
    until(lambda: harness.totals(distant) == HandlerTotals(delivered=9), "all is delivered")

    assert command.stop() == 0
    assert len(recorded_lines("called")) == before + 1 + 9
    assert harness.audit().balances


def test_paused_workers_poll_redis_a_few_times_a_second_and_stop_when_asked(harness: Harness, start: Start) -> None:
    unavailable_file().write_text("600")
    harness.accept(*statuses(["1"]))
    harness.expand()
    command = start(distant)
    until(lambda: is_paused(harness) and len(harness.waiting_jobs("deliver-distant")) == 1, "it waits")
    (pid,) = command.workers()
    before, ticks, clock = (
        harness.connection.hget(keys.paused("distant"), "times"),
        cpu_ticks(pid),
        harness.connection.time(),
    )

    until(lambda: harness.connection.time()[0] >= clock[0] + 4, "some seconds are over")

    assert cpu_ticks(pid) - ticks <= 40, "a worker that spins takes 400 ticks"
    assert harness.connection.hget(keys.paused("distant"), "times") == before
    assert len(recorded_lines("called")) == 1
    assert command.stop() == 0
    assert harness.totals(distant) == HandlerTotals(waiting=1)


def test_a_probe_that_is_killed_loses_nothing_and_another_tries_after_its_lease(harness: Harness, start: Start) -> None:
    unavailable_file().write_text("600")
    release_file().touch()
    harness.accept(status(record("1", client_message_id="waits"), record("2")))
    harness.expand()
    start(distant, 2)
    until(lambda: is_paused(harness), "it is paused")
    release_file().unlink()
    over(harness)
    until(lambda: len(recorded_lines("called")) == 2, "somebody tries")
    found = pause.read_state(harness.connection, "distant")
    assert found is not None
    assert found.is_probing
    assert DISTANT_SECONDS < found.seconds_left <= DISTANT_SECONDS + 10, "longer than the call may take"

    os.kill(int(recorded_lines("called")[-1][0]), signal.SIGKILL)
    unavailable_file().unlink()
    release_file().touch()
    over(harness)
    until(lambda: harness.totals(distant) == HandlerTotals(delivered=2), "all is delivered")

    assert [message for _, message in recorded_lines("called")] == ["1", "1", "1", "2"]
    assert pause.read_state(harness.connection, "distant") is None


def test_a_worker_killed_right_after_its_pause_loses_nothing(harness: Harness, start: Start) -> None:
    unavailable_file().write_text("600")
    harness.accept(*statuses([str(n) for n in range(5)], bundle=5))
    harness.expand()
    command = start(distant)
    until(lambda: is_paused(harness), "it is paused")
    for pid in command.workers():
        os.kill(pid, signal.SIGKILL)

    unavailable_file().unlink()
    over(harness)
    until(lambda: harness.totals(distant) == HandlerTotals(delivered=5), "all is delivered")
    assert harness.audit().balances


def test_an_event_that_kills_its_worker_is_the_only_dead_letter_during_a_pause_too(
    harness: Harness, start: Start
) -> None:
    unavailable_file().write_text("600")
    accept_and_expand_each(harness, "", "", "", "kills")
    start(distant)
    until(lambda: is_paused(harness), "it is paused")
    until(lambda: len(harness.waiting_jobs("deliver-distant")) == 4, "all wait")
    queue = keys.rq_queue("deliver-distant")
    harness.connection.lmove(queue, queue, "RIGHT", "LEFT")  # the probe is to be the one that kills
    unavailable_file().unlink()

    def lived() -> bool:
        if is_paused(harness):
            over(harness)  # nobody has to wait for the leases of those that died
        return harness.totals(distant) == HandlerTotals(delivered=3, dead=1)

    until(lived, "one is dead, the others are delivered")
    assert [message for _, message in recorded_lines("called")].count("4") == 3
    assert harness.audit().balances


def test_an_operator_pauses_and_resumes_a_handler(harness: Harness, start: Start) -> None:
    pause.pause(harness.connection, "distant")
    harness.accept(*statuses(["1", "2"]))
    harness.expand()
    start(distant, 2)
    until(lambda: harness.connection.scard("rq:workers:deliver-distant") == 2, "they are there")
    until(lambda: not harness.connection.zcard(keys.rq_started("deliver-distant")), "and have looked")
    clock = harness.connection.time()[0]
    until(lambda: harness.connection.time()[0] >= clock + 2, "some seconds are over")
    assert recorded_lines("called") == []
    assert harness.totals(distant) == HandlerTotals(waiting=2)

    assert pause.resume(harness.connection, "distant")

    until(lambda: harness.totals(distant) == HandlerTotals(delivered=2), "all is delivered")


@pytest.mark.parametrize("function", [opening, connecting], ids=["def", "async def"])
def test_a_lifespan_is_opened_once_in_each_process_and_closed_at_a_stop_with_calls_in_flight(
    harness: Harness, start: Start, function: Callable[..., object]
) -> None:
    command = start(function, 2)
    there = f"rq:workers:deliver-{declaration_of(function).name}"
    until(lambda: harness.connection.scard(there) == 2, "they are there, so that neither takes all of it along")
    accept_and_expand_each(harness, *[""] * 20)
    until(lambda: len({process for process, _ in recorded_lines("called")}) == 2, "both are at work")

    assert command.stop() == 0

    assert sorted(recorded_lines("opened")) == sorted(recorded_lines("closed"))
    assert {process for process, _ in recorded_lines("opened")} == {process for process, _ in recorded_lines("called")}
    assert len(recorded_lines("opened")) == 2
    assert harness.totals(function).delivered == len(recorded_lines("called")), (
        "each call that began was let end, and is settled"
    )
    assert (recorded_lines("called-elsewhere"), recorded_lines("closed-elsewhere")) == ([], []), (
        "all of it is on one loop"
    )


def test_a_process_whose_lifespan_cannot_be_opened_is_restarted_and_no_event_loses_an_attempt(
    harness: Harness, start: Start
) -> None:
    unavailable_file().write_text("")
    harness.accept(*statuses(["1"]))
    harness.expand()
    command = start(unready)
    until(lambda: len(recorded_lines("tried")) >= 3, "it is started again and again")
    assert harness.totals(unready) == HandlerTotals(waiting=1)
    assert command.process.poll() is None, "the supervisor goes on"
    unavailable_file().unlink()

    until(
        lambda: harness.totals(unready) == HandlerTotals(delivered=1),
        "it is delivered, although it has one attempt only",
    )

    assert (
        'action=handler_lifespan_failed handler=unready cause="ConnectionRefusedError at pausing_handlers.py:'
        in command.log
    )
    assert "35699000001" not in command.log
    assert command.stop() == 0
