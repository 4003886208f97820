"""A call that is longer than the grace period of a deploy: its worker was stopped, and did not die of the event."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration import recorders
from tests.integration.harness import Harness, open_harness, record, status
from tests.integration.runtime.pools import Command, Hurried, until
from tests.redis_server import RedisServer
from workers.runtime.settlement import MAX_DEATHS

QUEUE = queues.delivery_queue("single")
DEPLOYS = MAX_DEATHS + 2

Start = Callable[..., Command]


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Harness]:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    with open_harness(quick_redis.url, recorders.single) as made:
        yield made


@pytest.fixture
def start(harness: Harness, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(kind: type[Command] = Command) -> Command:
            arguments = ("deliver", "--handler", "single") if kind is Command else ()
            command = kind(harness, tmp_path / "log", *arguments)
            stack.callback(command.end)
            return command

        yield start


def accept_and_expand(harness: Harness, order: str) -> None:
    harness.accept(status(record("1", client_message_id=order)))
    harness.expand()


def delivered(harness: Harness) -> int:
    return next((one.delivered for one in harness.audit().handlers if one.handler == "single"), 0)


def stop_is_known(harness: Harness) -> bool:
    """Return whether Redis knows of each run that its worker was asked to stop."""
    runs = harness.connection.zrange(keys.rq_started(QUEUE), 0, -1)
    return all(harness.connection.hexists(f"rq:execution:{run.decode()}", "stopping") for run in runs)


def stopped_by_its_supervisor(_: Harness, start: Start, calls: int) -> None:
    command = start(Hurried)
    until(lambda: recorders.total() == calls, "the handler was called")
    assert command.stop() == 0
    assert "action=worker_killed" in command.log


def stopped_by_the_platform(harness: Harness, start: Start, calls: int) -> None:
    """Ask the supervisor to stop, and kill all processes before its grace period ends."""
    command = start()
    until(lambda: recorders.total() == calls, "the handler was called")
    command.process.send_signal(signal.SIGTERM)
    until(lambda: stop_is_known(harness), "the stop is known")
    command.kill()


@pytest.mark.parametrize("deploy", [stopped_by_its_supervisor, stopped_by_the_platform])
def test_deploys_that_kill_a_call_do_not_make_its_event_a_dead_letter(
    harness: Harness, start: Start, tmp_path: Path, deploy: Callable[[Harness, Start, int], None]
) -> None:
    accept_and_expand(harness, f"waits:{tmp_path / 'go'}")
    for number in range(1, DEPLOYS + 1):
        deploy(harness, start, number)

    (tmp_path / "go").touch()
    last = start()
    until(lambda: delivered(harness) == 1, "it is delivered")

    assert last.stop() == 0
    assert harness.dead_letters("single") == []
    assert sorted(recorders.calls("single").values()) == [DEPLOYS + 1]
    assert (harness.audit().balances, harness.leftover_keys()) == (True, set())


def test_an_event_that_kills_three_workers_is_a_dead_letter_whatever_deploys_come_between(
    harness: Harness, start: Start
) -> None:
    accept_and_expand(harness, "always-kills")
    for number in range(1, MAX_DEATHS + 1):
        command = start()
        until(lambda: recorders.total() >= number or harness.dead_letters("single"), "a worker died")  # noqa: B023 # at once
        assert command.stop() == 0
    start()
    until(lambda: harness.dead_letters("single"), "it is a dead letter")

    (letter,) = harness.dead_letters("single")
    assert letter["error"] == f"{MAX_DEATHS} workers died while the handler had it"
    assert harness.audit().balances
