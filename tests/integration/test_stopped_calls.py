"""A call that is longer than the grace of a deploy: its worker was stopped, and did not die of the event."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration import witnesses
from tests.integration.pools import Command, Hurried, until
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, record, status  # noqa: F401
from tests.redis_server import RedisServer
from workers.runtime.settlement import MAX_DEATHS

QUEUE = queues.delivery_queue("single")
DEPLOYS = MAX_DEATHS + 2

Start = Callable[..., Command]


@pytest.fixture
def b(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:  # noqa: F811
    monkeypatch.setenv(witnesses.VARIABLE, str(tmp_path / "calls"))
    with bench(quick_redis.url, witnesses.single) as made:
        yield made


@pytest.fixture
def start(b: Bench, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(kind: type[Command] = Command) -> Command:
            arguments = ("deliver", "--handler", "single") if kind is Command else ()
            command = kind(b, tmp_path / "log", *arguments)
            stack.callback(command.end)
            return command

        yield start


def brought(b: Bench, order: str) -> None:
    b.keep(status(record("1", client_message_id=order)))
    b.expand()


def delivered(b: Bench) -> int:
    return next((one.delivered for one in b.audit().handlers if one.handler == "single"), 0)


def stop_is_known(b: Bench) -> bool:
    """Return whether Redis knows of each run that its worker was asked to stop."""
    runs = b.connection.zrange(keys.rq_started(QUEUE), 0, -1)
    return all(b.connection.hexists(f"rq:execution:{run.decode()}", "stopping") for run in runs)


def stopped_by_its_supervisor(_: Bench, start: Start, calls: int) -> None:
    command = start(Hurried)
    until(lambda: witnesses.total() == calls, "the handler was called")
    assert command.stop() == 0
    assert "action=worker_killed" in command.log


def stopped_by_the_platform(b: Bench, start: Start, calls: int) -> None:
    """Ask the supervisor to stop, and kill all processes before it can do what it does at the end of its grace."""
    command = start()
    until(lambda: witnesses.total() == calls, "the handler was called")
    command.process.send_signal(signal.SIGTERM)
    until(lambda: stop_is_known(b), "the stop is known")
    command.kill()


@pytest.mark.parametrize("deploy", [stopped_by_its_supervisor, stopped_by_the_platform])
def test_deploys_that_cut_a_call_off_make_no_dead_letter_of_its_event(
    b: Bench, start: Start, tmp_path: Path, deploy: Callable[[Bench, Start, int], None]
) -> None:
    brought(b, f"waits:{tmp_path / 'go'}")
    for number in range(1, DEPLOYS + 1):
        deploy(b, start, number)

    (tmp_path / "go").touch()
    last = start()
    until(lambda: delivered(b) == 1, "it is delivered")

    assert last.stop() == 0
    assert b.dead_letters("single") == []
    assert sorted(witnesses.calls("single").values()) == [DEPLOYS + 1]
    assert (b.audit().balances, b.leftovers()) == (True, set())


def test_an_event_that_kills_its_workers_is_set_aside_after_three_however_many_deploys_come_between(
    b: Bench, start: Start
) -> None:
    brought(b, "murders")
    for number in range(1, MAX_DEATHS + 1):
        command = start()
        until(lambda: witnesses.total() >= number or b.dead_letters("single"), "a worker died")  # noqa: B023 # at once
        assert command.stop() == 0
    start()
    until(lambda: b.dead_letters("single"), "it is set aside")

    (letter,) = b.dead_letters("single")
    assert letter["error"] == f"{MAX_DEATHS} workers died while the handler had it"
    assert b.audit().balances
