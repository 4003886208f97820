"""A replay keeps to its rate limit, waits while the handler is paused, and can be stopped and resumed meanwhile."""

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from callbacks.cli.main import main
from shared import keys
from tests.integration.failures.failure_lists import die, ids, refusing
from tests.integration.harness import Harness, open_harness
from tests.redis_server import RedisServer
from workers.admin import replay_rate
from workers.admin.action_log import Action, ActionLog
from workers.admin.bulk_action import BulkActions, RemainingWork
from workers.admin.replay_rate import parse_rate
from workers.failures.cursor import Cursor
from workers.runtime import pause

ALL = Cursor.before(10**14)


class Clock:
    """Time that passes only while somebody sleeps; `on_sleep` is called then."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.on_sleep: Callable[[], object] = bool

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.seconds += seconds


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, refusing) as made:
        die(made, *map(str, range(130)))
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(replay_rate, "time", clock)
    return clock


def begin(actions: BulkActions, per_second: float) -> str:
    work = RemainingWork(task="replay", handler="refusing", cursor=ALL, per_second=per_second)
    return actions.start(Action(who="anna", by="page", what="replay", where="dead:refusing", number=130), work)


def replayed(harness: Harness) -> int:
    return 130 - len(ids(harness, keys.dead("refusing")))


@pytest.mark.parametrize(("text", "per_second"), [("50/s", 50.0), ("50", 50.0), (" 300 / M ", 5.0), ("1/m", 1 / 60)])
def test_a_rate_is_a_number_a_second_or_a_minute(text: str, per_second: float) -> None:
    assert parse_rate(text) == per_second
    assert parse_rate(replay_rate.format_limit(per_second)) == per_second


@pytest.mark.parametrize("text", ["", "0/s", "-5/s", "50/h", "fast", "1.5/s", "1/s/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="use 50/s or 300/m"):
        parse_rate(text)


@pytest.mark.parametrize(("per_second", "seconds"), [(50.0, 2.0), (1.0, 129.0), (0.5, 258.0), (5000.0, 0.02)])
def test_a_replay_takes_as_long_as_its_rate_says(
    harness: Harness, clock: Clock, per_second: float, seconds: float
) -> None:
    actions = BulkActions(harness.connection)
    seen: list[tuple[float, int]] = []
    clock.on_sleep = lambda: seen.append((clock.seconds, replayed(harness)))

    actions.run(begin(actions, per_second), is_stopping=bool)

    assert clock.seconds == pytest.approx(seconds)
    assert replayed(harness) == 130
    assert all(number <= max(per_second, 1) + at * per_second or number == 100 for at, number in seen)


def test_it_waits_while_the_handler_is_paused(harness: Harness, clock: Clock) -> None:
    actions = BulkActions(harness.connection)
    pause.pause(harness.connection, "refusing")
    during: list[int] = []

    def count() -> None:
        during.append(replayed(harness))
        if len(during) == 20:
            pause.resume(harness.connection, "refusing")

    clock.on_sleep = count
    actions.run(begin(actions, 50.0), is_stopping=bool)

    assert during[:20] == [50] * 20
    assert replayed(harness) == 130


def test_what_is_left_is_kept_for_as_long_as_the_replay_takes(harness: Harness, clock: Clock) -> None:
    actions = BulkActions(harness.connection)
    action_id = begin(actions, 50.0)
    stored = (keys.action_work(action_id), keys.action_replayed(action_id))
    lifetimes: list[int] = []

    def let_a_day_pass() -> None:
        lifetimes.extend(map(harness.connection.ttl, stored))
        for key in stored:
            harness.connection.expire(key, 60)

    clock.on_sleep = let_a_day_pass
    actions.run(action_id, is_stopping=bool)

    assert replayed(harness) == 130
    assert len(lifetimes) > 4
    assert min(lifetimes) > 60


def test_it_is_stopped_while_it_waits_and_resumed_with_its_rate(harness: Harness, clock: Clock) -> None:
    actions = BulkActions(harness.connection)
    action_id = begin(actions, 1.0)
    clock.on_sleep = lambda: actions.stop(action_id)

    actions.run(action_id, is_stopping=bool)

    state = actions.get_state(action_id)
    assert state is not None
    assert (state.action.state, state.action.done, replayed(harness)) == ("stopped", 1, 1)
    clock.on_sleep = bool
    before = clock.seconds
    actions.run(actions.resume(action_id, "ben"), is_stopping=bool)
    assert replayed(harness) == 130
    assert clock.seconds - before == pytest.approx(128.0)


def test_the_command_runs_it_as_an_action_that_the_page_shows(harness: Harness, clock: Clock) -> None:
    newest = ids(harness, keys.dead("refusing"))[-1]
    harness.connection.hset(keys.dead_letter("refusing", newest), "event", '["letter"]')

    ended = CliRunner().invoke(main, ("dead", "replay", "refusing", "--error", "no", "--rate", "50/s", "--json"))

    error, summary = map(json.loads, ended.stdout.splitlines())
    assert error["id"] == newest
    assert (summary["replayed"], summary["failed"], summary["interrupted"]) == (129, 1, False)
    assert ended.exit_code == 1
    assert clock.seconds == pytest.approx(2.0)
    (action,) = ActionLog(harness.connection).list_newest(limit=9).items
    assert (action.by, action.what, action.number, action.done) == ("command", "replay", 130, 129)
    assert action.chosen == "all with error contains a text of 2 characters, at most 50/s"
    assert action.action_id == summary["action_id"]


def test_named_dead_letters_have_a_rate_too(harness: Harness, clock: Clock) -> None:
    named = ids(harness, keys.dead("refusing"))[:2]

    ended = CliRunner().invoke(main, ("dead", "replay", "refusing", *named, "--rate", "1/s"))

    assert (ended.stdout, ended.exit_code, clock.seconds) == ("replayed: 2\n", 0, 1.0)
    assert CliRunner().invoke(main, ("dead", "replay", "refusing", "--all", "--rate", "soon")).exit_code == 2
