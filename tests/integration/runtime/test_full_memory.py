"""Redis near its maxmemory and at it: one handler's failures stop no other, and what frees memory is never refused.

A real Redis with `noeviction`, and `callbacks worker` as it is run.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys, memory, queues
from tests.acceptance import processes
from tests.integration import recorders
from tests.integration.admin import failing_handlers
from tests.integration.harness import HandlerTotals, Harness, open_harness, statuses
from tests.integration.runtime.pools import REPOSITORY, Command, until
from tests.redis_server import RedisServer
from workers.runtime import pause

EVENTS = 12_000
BALLAST = "ballast"
HANDLERS = "tests.integration.admin.failing_handlers"

Start = Callable[..., Command]


@pytest.fixture
def repaired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the file that has to be there for `bad` to work."""
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "repaired"))
    return tmp_path / "repaired"


@pytest.fixture
def harness(start_redis: Callable[..., RedisServer], repaired: Path) -> Iterator[Harness]:
    server = start_redis({"appendonly": "no", "maxmemory-policy": "noeviction"})
    with open_harness(server.url, failing_handlers.bad, failing_handlers.good) as made:
        yield made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(harness: Harness, *arguments: str) -> Command:
            command = Command(harness, tmp_path / "log", *arguments, CALLBACKS_HANDLERS=HANDLERS)
            stack.callback(command.end)
            return command

        yield start


def kept(harness: Harness, number: int) -> None:
    """Accept callbacks with `number` events, a hundred in each."""
    harness.accept(*statuses([str(n) for n in range(number)], bundle=100))


def used(harness: Harness) -> memory.Memory:
    return memory.parse_info(harness.connection.info("memory"))


def limit(harness: Harness, share: float) -> None:
    """Set the maxmemory of which this share is used now.

    Before that Redis is made larger: buffers and connections come and go, and would be a twentieth of a small one.
    """
    harness.connection.setrange(BALLAST, 20 << 20, "x")
    harness.connection.config_set("maxmemory", int(used(harness).used_bytes / share))


def hurry(harness: Harness, handler: str) -> None:
    """Let the time of the handler's retries come, and that of the next event tried while it is paused."""
    scheduled = keys.rq_scheduled(queues.delivery_queue(handler))
    for job_id in harness.connection.zrange(scheduled, 0, -1):
        harness.connection.zadd(scheduled, {job_id: time.time() - 5}, xx=True)
    pausing = pause.read_state(harness.connection, handler)
    if pausing is not None and not pausing.is_probing:
        harness.connection.eval(
            "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'until_ms', 1) end",
            1,
            keys.paused(handler),
        )


def is_paused(harness: Harness, handler: str) -> bool:
    return pause.read_state(harness.connection, handler) is not None


def started(command: Command) -> int:
    return command.log.count("action=worker_started")


def run(harness: Harness, *arguments: str) -> str:
    """Run `callbacks` and return what it prints."""
    environment = {"REDIS_URL": harness.url, "CALLBACKS_HANDLERS": HANDLERS}
    ended = processes.run(*arguments, cwd=REPOSITORY, environment=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_failing_handler_is_paused_before_it_fills_redis_and_the_other_delivers_all(
    harness: Harness, start: Start, repaired: Path
) -> None:
    kept(harness, EVENTS)
    harness.expand()
    # Between FAILURES_SHARE and CALLBACKS_SHARE. What the workers need besides is 2 % of it.
    limit(harness, 0.87)

    command = start(harness, "deliver")

    until(lambda: harness.totals("good") == HandlerTotals(delivered=EVENTS), "all of good's are delivered")
    until(lambda: is_paused(harness, "bad"), "bad is paused")
    until(lambda: harness.totals("bad") == HandlerTotals(waiting=EVENTS), "its worker has returned all that it claimed")
    until(lambda: used(harness).share < memory.CALLBACKS_SHARE, "so callbacks can come in")
    found = pause.read_state(harness.connection, "bad")
    assert found is not None
    assert found.by == "memory"
    assert "full; retries of this handler would fill it" in found.reason
    assert started(command) == 2, "no worker has ended"

    repaired.touch()

    def arrived() -> bool:
        hurry(harness, "bad")
        return harness.totals("bad") == HandlerTotals(delivered=EVENTS)

    until(arrived, "all of bad's are delivered")
    until(lambda: not is_paused(harness, "bad"), "it is not paused any more")
    assert (command.stop(), started(command)) == (0, 2)
    assert harness.audit().balances
    assert harness.leftover_keys() == {BALLAST}


def test_at_its_limit_workers_start_claim_settle_die_and_end(harness: Harness, start: Start) -> None:
    kept(harness, 500)
    harness.expand()
    limit(harness, 2.0)

    command = start(harness, "deliver")

    until(lambda: harness.totals("good") == HandlerTotals(delivered=500), "all of good's are delivered")
    until(lambda: is_paused(harness, "bad"), "bad is paused")
    for pid in command.workers():
        os.kill(pid, signal.SIGKILL)
    until(lambda: started(command) == 4, "they are started again")
    until(lambda: harness.connection.scard("rq:workers") == 2, "the dead are forgotten")
    assert command.stop() == 0
    assert started(command) == 4
    assert "Traceback" not in command.log
    assert harness.totals("bad") == HandlerTotals(waiting=500)
    assert harness.audit().balances


def test_at_its_limit_operators_see_why_and_pause_resume_and_discard(harness: Harness, start: Start) -> None:
    kept(harness, 500)
    harness.expand()
    limit(harness, 2.0)
    command = start(harness, "deliver", "--handler", "bad")
    until(lambda: is_paused(harness, "bad"), "bad is paused")

    assert "full; retries of this handler would fill it" in " ".join(run(harness, "handlers").split())

    assert command.stop() == 0
    run(harness, "handlers", "resume", "bad")
    assert not is_paused(harness, "bad")
    run(harness, "handlers", "pause", "bad")
    assert is_paused(harness, "bad")
    run(harness, "handlers", "purge", "bad", "--yes")
    assert harness.totals("bad") == HandlerTotals()
    assert harness.audit().balances


def test_a_handler_paused_for_memory_goes_on_by_itself_when_there_is_room(harness: Harness, start: Start) -> None:
    kept(harness, 100)
    harness.expand()
    limit(harness, 2.0)
    command = start(harness, "deliver", "--handler", "bad")
    until(lambda: is_paused(harness, "bad"), "bad is paused")

    harness.connection.config_set("maxmemory", 1 << 30)

    until(
        lambda: harness.connection.zcard(keys.rq_scheduled("deliver-bad")) == 100, "each has failed and is tried again"
    )
    assert not is_paused(harness, "bad")
    assert "action=handler_resumed handler=bad by=memory" in command.log
    assert harness.audit().balances


def test_callbacks_are_expanded_only_while_there_is_room(harness: Harness, start: Start) -> None:
    kept(harness, 100)
    limit(harness, 0.97)
    command = start(harness, "expand")
    until(lambda: "action=fan_out_waiting" in command.log, "it waits")
    assert harness.audit().waiting == 100

    harness.connection.config_set("maxmemory", 1 << 30)

    until(lambda: harness.totals("good") == HandlerTotals(waiting=100), "all are expanded")
    assert "action=fan_out_resumed" in command.log
    assert harness.audit().balances


def test_at_its_limit_expand_workers_start_and_stop_and_leave_the_callbacks(harness: Harness, start: Start) -> None:
    kept(harness, 100)
    limit(harness, 2.0)
    command = start(harness, "expand")
    until(lambda: "action=fan_out_waiting" in command.log, "it waits")

    assert command.stop() == 0

    assert started(command) == 1
    assert "Traceback" not in command.log
    assert harness.audit().waiting == 100
