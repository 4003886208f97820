"""Pauses and lifespans with worker processes as they are run: some are killed, and nothing is asserted of how long."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys
from tests.integration import pausing_witnesses, witnesses
from tests.integration.pausing_witnesses import away, connecting, distant, opening, told, unready
from tests.integration.pools import Command, until
from tests.integration.workbench import Bench, _quick_server, bench, declared, quick_redis, record, status, statuses  # noqa: F401
from tests.redis_server import RedisServer
from workers.runtime import pause

Start = Callable[..., Command]


@pytest.fixture
def b(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:  # noqa: F811
    monkeypatch.setenv(witnesses.VARIABLE, str(tmp_path / "calls"))
    with bench(quick_redis.url, distant, opening, connecting, unready) as made:
        yield made


@pytest.fixture
def start(b: Bench, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(function: Callable[..., object], processes: int = 1) -> Command:
            words = ("deliver", "--handler", declared(function).name, "--processes", str(processes))
            command = Command(b, tmp_path / "log", *words, CALLBACKS_HANDLERS=pausing_witnesses.__name__)
            stack.callback(command.end)
            return command

        yield start


def brought_apart(b: Bench, *orders: str) -> None:
    """Have an event for each of these orders wait, each in a job of its own."""
    for n, order in enumerate(orders, 1):
        b.keep(status(record(str(n), client_message_id=order)))
        b.expand()


def at(b: Bench, function: Callable[..., object] = distant) -> tuple[int, int, int]:
    (found,) = (one for one in b.audit().handlers if one.handler == declared(function).name)
    assert b.audit().moving or found.missing == 0
    return found.delivered, found.dead, found.waiting


def is_paused(b: Bench, *, times: int = 1) -> bool:
    found = pause.read_state(b.connection, "distant")
    return found is not None and found.times >= times


def over(b: Bench) -> None:
    b.connection.hset(keys.paused("distant"), "until_ms", 1)


def cpu_ticks(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def test_all_processes_wait_and_one_alone_tries_one_event(b: Bench, start: Start) -> None:
    away().write_text("600")
    command = start(distant, 3)
    until(lambda: b.connection.scard("rq:workers:deliver-distant") == 3, "they are there: none comes after the pause")
    brought_apart(b, *["sleeps"] * 9)
    until(lambda: len(told("called")) == 3, "each has one in hands")
    until(lambda: is_paused(b) and not b.connection.zcard(keys.rq_started("deliver-distant")), "all have stopped")
    before = len(told("called"))
    assert len({process for process, _ in told("called")}) == before == 3, "those that were under way, and no more"

    over(b)
    until(lambda: len(told("called")) > before, "somebody tries")
    until(lambda: is_paused(b, times=2), "in vain")
    assert len(told("called")) == before + 1, "the others have waited"

    over(b)
    until(lambda: len(told("called")) > before + 1, "somebody tries again")
    away().unlink()
    until(lambda: at(b) == (9, 0, 0), "all is delivered")

    assert command.stop() == 0
    assert len(told("called")) == before + 1 + 9
    assert b.audit().balances


def test_workers_at_rest_in_a_pause_ask_redis_a_few_times_a_second_and_stop_when_told(b: Bench, start: Start) -> None:
    away().write_text("600")
    b.keep(*statuses(["1"]))
    b.expand()
    command = start(distant)
    until(lambda: is_paused(b) and len(b.waiting("deliver-distant")) == 1, "it waits")
    (pid,) = command.workers()
    before, ticks, clock = b.connection.hget(keys.paused("distant"), "times"), cpu_ticks(pid), b.connection.time()

    until(lambda: b.connection.time()[0] >= clock[0] + 4, "some seconds are over")

    assert cpu_ticks(pid) - ticks <= 40, "a worker that spins takes 400 ticks"
    assert b.connection.hget(keys.paused("distant"), "times") == before
    assert len(told("called")) == 1
    assert command.stop() == 0
    assert at(b) == (0, 0, 1)


def test_a_probe_that_is_killed_loses_nothing_and_another_one_tries_when_its_lease_is_over(
    b: Bench, start: Start
) -> None:
    away().write_text("600")
    b.keep(status(record("1", client_message_id="sleeps"), record("2")))
    b.expand()
    start(distant, 2)
    until(lambda: is_paused(b), "it is paused")
    over(b)
    until(lambda: len(told("called")) == 2, "somebody tries")
    found = pause.read_state(b.connection, "distant")
    assert found is not None
    assert found.is_probing
    assert 5 < found.seconds_left <= 15, "longer than the call may take"

    os.kill(int(told("called")[-1][0]), signal.SIGKILL)
    away().unlink()
    over(b)
    until(lambda: at(b) == (2, 0, 0), "all is delivered")

    assert [message for _, message in told("called")] == ["1", "1", "1", "2"]
    assert pause.read_state(b.connection, "distant") is None


def test_a_worker_killed_right_after_its_pause_loses_nothing(b: Bench, start: Start) -> None:
    away().write_text("600")
    b.keep(*statuses([str(n) for n in range(5)], bundle=5))
    b.expand()
    command = start(distant)
    until(lambda: is_paused(b), "it is paused")
    for pid in command.workers():
        os.kill(pid, signal.SIGKILL)

    away().unlink()
    over(b)
    until(lambda: at(b) == (5, 0, 0), "all is delivered")
    assert b.audit().balances


def test_an_event_that_kills_its_worker_dies_alone_under_a_pause_too(b: Bench, start: Start) -> None:
    away().write_text("600")
    brought_apart(b, "", "", "", "kills")
    start(distant)
    until(lambda: is_paused(b), "it is paused")
    until(lambda: len(b.waiting("deliver-distant")) == 4, "all wait")
    queue = keys.rq_queue("deliver-distant")
    b.connection.lmove(queue, queue, "RIGHT", "LEFT")  # the probe is to be the one that kills
    away().unlink()

    def lived() -> bool:
        if is_paused(b):
            over(b)  # nobody has to wait for the leases of those that died
        return at(b) == (3, 1, 0)

    until(lived, "one is dead, the others are delivered")
    assert [message for _, message in told("called")].count("4") == 3
    assert b.audit().balances


def test_an_operator_switches_a_handler_off_and_on_again(b: Bench, start: Start) -> None:
    pause.pause(b.connection, "distant")
    b.keep(*statuses(["1", "2"]))
    b.expand()
    start(distant, 2)
    until(lambda: b.connection.scard("rq:workers:deliver-distant") == 2, "they are there")
    until(lambda: not b.connection.zcard(keys.rq_started("deliver-distant")), "and have looked")
    clock = b.connection.time()[0]
    until(lambda: b.connection.time()[0] >= clock + 2, "some seconds are over")
    assert told("called") == []
    assert at(b) == (0, 0, 2)

    assert pause.resume(b.connection, "distant")

    until(lambda: at(b) == (2, 0, 0), "all is delivered")


@pytest.mark.parametrize("function", [opening, connecting], ids=["def", "async def"])
def test_a_lifespan_is_entered_once_in_each_process_and_left_at_a_stop_with_work_under_way(
    b: Bench, start: Start, function: Callable[..., object]
) -> None:
    command = start(function, 2)
    there = f"rq:workers:deliver-{declared(function).name}"
    until(lambda: b.connection.scard(there) == 2, "they are there, so that neither takes all of it along")
    brought_apart(b, *[""] * 20)
    until(lambda: len({process for process, _ in told("called")}) == 2, "both are at work")

    assert command.stop() == 0

    assert sorted(told("opened")) == sorted(told("closed"))
    assert {process for process, _ in told("opened")} == {process for process, _ in told("called")}
    assert len(told("opened")) == 2
    assert at(b, function)[0] == len(told("called")), "each call that began was let end, and is settled"
    assert (told("called-elsewhere"), told("closed-elsewhere")) == ([], []), "all of it is on one loop"


def test_what_cannot_be_opened_ends_its_process_which_is_started_again_and_no_event_is_touched(
    b: Bench, start: Start
) -> None:
    away().write_text("")
    b.keep(*statuses(["1"]))
    b.expand()
    command = start(unready)
    until(lambda: len(told("tried")) >= 3, "it is started again and again")
    assert at(b, unready) == (0, 0, 1)
    assert command.process.poll() is None, "the supervisor goes on"
    away().unlink()

    until(lambda: at(b, unready) == (1, 0, 0), "it is delivered, although it has one attempt only")

    assert (
        "action=handler_lifespan_failed handler=unready cause=ConnectionRefusedError at pausing_witnesses.py:"
        in command.log
    )
    assert "35699000001" not in command.log
    assert command.stop() == 0
