"""A pool is killed whole, or stops while Redis is unavailable: the next one on this machine resumes its work."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys
from tests.integration import recorders
from tests.integration.harness import Harness, open_harness, record, status, statuses
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer

Start = Callable[..., Command]


@pytest.fixture
def redis_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def harness(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Harness]:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    with open_harness(redis_server.url, *recorders.ALL) as made:
        yield made


@pytest.fixture
def start(harness: Harness, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start() -> Command:
            command = Command(harness, tmp_path / "log", "deliver", "--handler", "single")
            stack.callback(command.end)
            return command

        yield start


def accept_and_expand(harness: Harness, *, last: str) -> None:
    """Have 200 quick events wait at each handler, and one of which the order is `last`."""
    harness.accept(*statuses([str(n) for n in range(200)], bundle=200))
    harness.accept(status(record("last", client_message_id=last)))
    harness.expand()


def delivered(harness: Harness) -> int:
    return next(one.delivered for one in harness.audit().handlers if one.handler == "single")


def journals(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def test_a_pool_killed_whole_goes_on_at_its_next_start_and_repeats_what_was_in_hands_alone(
    harness: Harness, start: Start, tmp_path: Path
) -> None:
    accept_and_expand(harness, last=f"waits:{tmp_path / 'go'}")
    first = start()
    until(lambda: recorders.total() == 201, "the last event is in the handler's hands")

    first.kill()
    (tmp_path / "go").touch()
    assert harness.connection.zcard(keys.rq_started("deliver-single")) == 1, "nobody was left to give the job back"
    second = start()
    until(lambda: delivered(harness) == 201, "all is delivered, though the dead worker's lease has not run out")

    assert sorted(recorders.calls("single").values()) == [1] * 200 + [2]
    assert second.stop() == 0
    assert journals(tmp_path) == []


def test_a_pool_that_stops_while_redis_is_unavailable_ends_soon_and_the_next_settles_what_was_done(
    harness: Harness, redis_server: RedisServer, start: Start, tmp_path: Path
) -> None:
    accept_and_expand(harness, last=f"waits:{tmp_path / 'go'}")
    first = start()
    until(lambda: recorders.total() == 201, "the last event is in the handler's hands")

    redis_server.kill()
    (tmp_path / "go").touch()
    assert first.stop() in (0, 1)
    assert len(journals(tmp_path)) == 1, "what could not be settled is kept for the next"
    redis_server.start()
    second = start()
    until(lambda: delivered(harness) == 201, "all is delivered")

    assert sorted(recorders.calls("single").values()) == [1] * 201, "nobody died, so nothing comes again"
    assert second.stop() == 0
    assert journals(tmp_path) == []
    assert harness.audit().balances
