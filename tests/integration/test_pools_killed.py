"""A pool that is killed whole, or that stops while Redis is away: the next one on this machine goes on where it was."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys
from tests.integration import witnesses
from tests.integration.pools import Command, until
from tests.integration.workbench import Bench, bench, record, status, statuses
from tests.redis_server import RedisServer

Start = Callable[..., Command]


@pytest.fixture
def redis_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def b(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    monkeypatch.setenv(witnesses.VARIABLE, str(tmp_path / "calls"))
    with bench(redis_server.url, *witnesses.ALL) as made:
        yield made


@pytest.fixture
def start(b: Bench, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start() -> Command:
            command = Command(b, tmp_path / "log", "deliver", "--handler", "single")
            stack.callback(command.end)
            return command

        yield start


def brought(b: Bench, *, last: str) -> None:
    """Have 200 quick events wait at each handler, and one of which the order is `last`."""
    b.keep(*statuses([str(n) for n in range(200)], bundle=200))
    b.keep(status(record("last", client_message_id=last)))
    b.expand()


def delivered(b: Bench) -> int:
    return next(one.delivered for one in b.audit().handlers if one.handler == "single")


def journals(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def test_a_pool_killed_whole_goes_on_at_its_next_start_and_repeats_what_was_in_hands_alone(
    b: Bench, start: Start, tmp_path: Path
) -> None:
    brought(b, last="sleeps:1.5")
    first = start()
    until(lambda: witnesses.total() == 201, "the last event is in the handler's hands")

    first.kill()
    assert b.connection.zcard(keys.rq_started("deliver-single")) == 1, "nobody was left to give the job back"
    second = start()
    until(lambda: delivered(b) == 201, "all is delivered, though the dead worker's lease has not run out")

    assert sorted(witnesses.calls("single").values()) == [1] * 200 + [2]
    assert second.stop() == 0
    assert journals(tmp_path) == []


def test_a_pool_that_stops_while_redis_is_away_ends_soon_and_its_next_start_settles_what_was_done(
    b: Bench, redis_server: RedisServer, start: Start, tmp_path: Path
) -> None:
    brought(b, last="sleeps:1.5")
    first = start()
    until(lambda: witnesses.total() == 201, "the last event is in the handler's hands")

    redis_server.kill()
    assert first.stop() in (0, 1)
    assert len(journals(tmp_path)) == 1, "what could not be settled is kept for the next"
    redis_server.start()
    second = start()
    until(lambda: delivered(b) == 201, "all is delivered")

    assert sorted(witnesses.calls("single").values()) == [1] * 201, "nobody died, so nothing comes again"
    assert second.stop() == 0
    assert journals(tmp_path) == []
    assert b.audit().balances
