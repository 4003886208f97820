"""The command line's actions on failures and handlers are in the action log too, with the user who ran them."""

import getpass
import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from shared import keys
from tests.integration.failures.failure_lists import die, ids, quarantined, refusing
from tests.integration.harness import Harness, open_harness
from tests.redis_server import RedisServer
from workers.admin.action_log import ActionLog


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, refusing) as made:
        yield made


def callbacks(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def list_actions(harness: Harness) -> list[tuple[object, ...]]:
    """Return what is noted, newest first."""
    acts = ActionLog(harness.connection).list_newest(limit=9).items
    assert all((act.who, act.by) == (getpass.getuser(), "command") for act in acts)
    return [(act.what, act.where, act.chosen, act.number, act.state, act.done, act.failed) for act in acts]


def test_replaying_and_dropping_are_noted(harness: Harness) -> None:
    die(harness, "1", "2", "3")
    first, *_ = ids(harness, keys.dead("refusing"))
    harness.accept(quarantined=[quarantined(1), quarantined(2)])

    assert json.loads(callbacks("dead", "replay", "refusing", first, "--json").output)["replayed"] == 1
    assert list_actions(harness) == [("replay", "dead:refusing", "1 by id", 1, "done", 1, 0)]
    assert callbacks("dead", "drop", "refusing", "--all", "--yes").exit_code == 0
    assert callbacks("quarantine", "drop", "0badc0de", "--yes").exit_code == 1
    assert callbacks("quarantine", "replay", "--all").exit_code == 0

    assert sorted(list_actions(harness), key=str) == [
        ("drop", "dead:refusing", "all", 2, "done", 2, 0),
        ("drop", "quarantine", "1 by id", 1, "done", 0, 1),
        ("replay", "dead:refusing", "1 by id", 1, "done", 1, 0),
        ("replay", "quarantine", "all", 2, "done", 2, 0),
    ]


def test_what_an_operator_thinks_better_of_is_not_noted(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(1)])

    assert CliRunner().invoke(main, ["quarantine", "drop", "--all"], input="n\n").exit_code == 1
    assert list_actions(harness) == []


def test_pausing_resuming_and_purging_a_handler_are_logged(harness: Harness) -> None:
    die(harness, "1")
    harness.connection.delete(keys.SUBSCRIPTIONS)

    assert callbacks("handlers", "pause", "refusing").exit_code == 0
    assert callbacks("dead", "replay", "refusing", "--all").exit_code == 0
    assert callbacks("handlers", "purge", "refusing", "--yes").exit_code == 0
    assert callbacks("handlers", "resume", "refusing").exit_code == 0

    assert sorted((row for row in list_actions(harness) if row[1] == "handler:refusing"), key=str) == [
        ("pause", "handler:refusing", "", None, "done", 0, 0),
        ("purge", "handler:refusing", "", 1, "done", 1, 0),
        ("resume", "handler:refusing", "", None, "done", 0, 0),
    ]
