"""Redis near its maxmemory and at it: one handler's failures stop no other, and what frees memory is never refused.

A real Redis with `noeviction`, and `callbacks worker` as it is run.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys, memory, queues
from tests.integration import failing_witnesses, witnesses
from tests.integration.pools import REPOSITORY, Command, until
from tests.integration.workbench import Bench, bench, statuses
from tests.redis_server import RedisServer
from workers.runtime import pause

EVENTS = 12_000
HANDLERS = "tests.integration.failing_witnesses"

Start = Callable[..., Command]


@pytest.fixture
def repaired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the file that has to be there for `bad` to work."""
    monkeypatch.setenv(witnesses.VARIABLE, str(tmp_path / "repaired"))
    return tmp_path / "repaired"


@pytest.fixture
def b(start_redis: Callable[..., RedisServer], repaired: Path) -> Iterator[Bench]:
    server = start_redis({"appendonly": "no", "maxmemory-policy": "noeviction"})
    with bench(server.url, failing_witnesses.bad, failing_witnesses.good) as made:
        yield made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(b: Bench, *arguments: str) -> Command:
            command = Command(b, tmp_path / "log", *arguments, CALLBACKS_HANDLERS=HANDLERS)
            stack.callback(command.end)
            return command

        yield start


def kept(b: Bench, number: int) -> None:
    """Keep callbacks with so many events, a hundred in each."""
    b.keep(*statuses([str(n) for n in range(number)], bundle=100))


def used(b: Bench) -> memory.Memory:
    return memory.parse_info(b.connection.info("memory"))


def limit(b: Bench, share: float) -> None:
    """Set the maxmemory of which this share is used now."""
    b.connection.config_set("maxmemory", int(used(b).used_bytes / share))


def events_at(b: Bench, handler: str) -> tuple[int, int, int]:
    """Return how many events are delivered, waiting and missing."""
    found = next((one for one in b.audit().handlers if one.handler == handler), None)
    return (found.delivered, found.waiting, found.missing) if found is not None else (0, 0, 0)


def hurry(b: Bench, handler: str) -> None:
    """Let the time of the handler's retries come, and that of the next event tried while it is paused."""
    scheduled = keys.rq_scheduled(queues.delivery_queue(handler))
    for job_id in b.connection.zrange(scheduled, 0, -1):
        b.connection.zadd(scheduled, {job_id: time.time() - 5}, xx=True)
    pausing = pause.read_state(b.connection, handler)
    if pausing is not None and not pausing.is_probing:
        b.connection.eval(
            "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'until_ms', 1) end",
            1,
            keys.paused(handler),
        )


def is_paused(b: Bench, handler: str) -> bool:
    return pause.read_state(b.connection, handler) is not None


def started(command: Command) -> int:
    return command.log.count("action=worker_started")


def run(b: Bench, *arguments: str) -> str:
    """Run `callbacks` and return what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "callbacks.cli.main", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "REDIS_URL": b.url, "CALLBACKS_HANDLERS": HANDLERS},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_failing_handler_is_paused_before_it_fills_redis_and_the_other_delivers_all(
    b: Bench, start: Start, repaired: Path
) -> None:
    kept(b, EVENTS)
    b.expand()
    limit(b, 0.89)

    command = start(b, "deliver")

    until(lambda: events_at(b, "good") == (EVENTS, 0, 0), "all of good's are delivered")
    until(lambda: is_paused(b, "bad"), "bad is paused")
    assert events_at(b, "bad") == (0, EVENTS, 0)
    assert used(b).share < memory.CALLBACKS_SHARE, "so callbacks can come in"
    found = pause.read_state(b.connection, "bad")
    assert found is not None
    assert found.by == "memory"
    assert "full; retries of this handler would fill it" in found.reason
    assert started(command) == 2, "no worker has ended"

    repaired.touch()

    def arrived() -> bool:
        hurry(b, "bad")
        return events_at(b, "bad") == (EVENTS, 0, 0)

    until(arrived, "all of bad's are delivered")
    until(lambda: not is_paused(b, "bad"), "it is not paused any more")
    assert (command.stop(), started(command)) == (0, 2)
    assert b.audit().balances
    assert b.leftovers() == set()


def test_at_its_limit_workers_start_claim_settle_die_and_end(b: Bench, start: Start) -> None:
    kept(b, 500)
    b.expand()
    limit(b, 2.0)

    command = start(b, "deliver")

    until(lambda: events_at(b, "good") == (500, 0, 0), "all of good's are delivered")
    until(lambda: is_paused(b, "bad"), "bad is paused")
    for pid in command.workers():
        os.kill(pid, signal.SIGKILL)
    until(lambda: started(command) == 4, "they are started again")
    until(lambda: b.connection.scard("rq:workers") == 2, "the dead are forgotten")
    assert command.stop() == 0
    assert started(command) == 4
    assert "Traceback" not in command.log
    assert events_at(b, "bad") == (0, 500, 0)
    assert b.audit().balances


def test_at_its_limit_operators_see_why_and_pause_resume_and_discard(b: Bench, start: Start) -> None:
    kept(b, 500)
    b.expand()
    limit(b, 2.0)
    command = start(b, "deliver", "--handler", "bad")
    until(lambda: is_paused(b, "bad"), "bad is paused")

    assert "full; retries of this handler would fill it" in " ".join(run(b, "handlers").split())

    assert command.stop() == 0
    run(b, "handlers", "resume", "bad")
    assert not is_paused(b, "bad")
    run(b, "handlers", "pause", "bad")
    assert is_paused(b, "bad")
    run(b, "handlers", "purge", "bad", "--yes")
    assert events_at(b, "bad") == (0, 0, 0)
    assert b.audit().balances


def test_a_handler_paused_for_memory_goes_on_by_itself_when_there_is_room(b: Bench, start: Start) -> None:
    kept(b, 100)
    b.expand()
    limit(b, 2.0)
    command = start(b, "deliver", "--handler", "bad")
    until(lambda: is_paused(b, "bad"), "bad is paused")

    b.connection.config_set("maxmemory", 1 << 30)

    until(lambda: b.connection.zcard(keys.rq_scheduled("deliver-bad")) == 100, "each has failed and is tried again")
    assert not is_paused(b, "bad")
    assert "action=handler_resumed handler=bad by=memory" in command.log
    assert b.audit().balances


def test_callbacks_are_expanded_only_while_there_is_room(b: Bench, start: Start) -> None:
    kept(b, 100)
    limit(b, 0.96)
    command = start(b, "expand")
    until(lambda: "action=fan_out_waiting" in command.log, "it waits")
    assert b.audit().waiting == 100

    b.connection.config_set("maxmemory", 1 << 30)

    until(lambda: events_at(b, "good") == (0, 100, 0), "all are expanded")
    assert "action=fan_out_resumed" in command.log
    assert b.audit().balances


def test_at_its_limit_expand_workers_start_and_stop_and_leave_the_callbacks(b: Bench, start: Start) -> None:
    kept(b, 100)
    limit(b, 2.0)
    command = start(b, "expand")
    until(lambda: "action=fan_out_waiting" in command.log, "it waits")

    assert command.stop() == 0

    assert started(command) == 1
    assert "Traceback" not in command.log
    assert b.audit().waiting == 100
