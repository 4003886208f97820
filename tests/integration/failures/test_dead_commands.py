"""`callbacks dead`: a line for each dead letter; replaying those that match; one is an event for `handlers try`."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from shared import events, keys
from tests.integration.failures.failure_lists import die, ids, refusing
from tests.integration.harness import Harness, open_harness
from tests.redis_server import RedisServer
from workers.admin import event_input
from workers.admin.action_log import ActionLog

TWO_HOURS_MS = 2 * 3600 * 1000


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, refusing) as made:
        yield made


def callbacks(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


def give_error(harness: Harness, event_id: str, error: str, *, age_ms: int = 0) -> None:
    key = keys.dead_letter("refusing", event_id)
    died_ms = int(harness.connection.hget(key, "died_ms") or 0) - age_ms
    harness.connection.hset(key, mapping={"error": error, "died_ms": died_ms})
    harness.connection.zadd(keys.dead("refusing"), {event_id: died_ms})


def test_the_list_says_which_message_each_is_with_a_masked_number(harness: Harness) -> None:
    die(harness, "m-1")
    (event_id,) = ids(harness, keys.dead("refusing"))

    line, total = callbacks("dead", "list", "refusing").output.splitlines()
    found = json.loads(callbacks("dead", "list", "refusing", "--json").output)

    cells = line.split("  ")
    assert cells[0] == event_id
    assert cells[2:5] == ["refusing", "1 attempt", "m-1"]
    assert cells[7] == "no"
    assert cells[6] == found["number"]
    assert "*" in found["number"]
    assert cells[5] == found["status"]
    assert total == "1 in total"


def test_a_dead_letter_that_cannot_be_read_is_listed_without_its_message(harness: Harness) -> None:
    die(harness, "m-1")
    (event_id,) = ids(harness, keys.dead("refusing"))
    harness.connection.hset(keys.dead_letter("refusing", event_id), "event", '["report"]')

    line, _ = callbacks("dead", "list", "refusing").output.splitlines()

    assert line.split("  ")[4:] == ["-", "-", "-", "no"]


def test_only_those_that_match_are_replayed(harness: Harness) -> None:
    die(harness, "1", "2", "3")
    first, second, third = ids(harness, keys.dead("refusing"))
    give_error(harness, first, "Shop is CLOSED")
    give_error(harness, second, "shop is closed", age_ms=TWO_HOURS_MS)

    for options, replayed in (
        (("--error", "nothing such"), 0),
        ((third, "--error", "closed"), 0),
        (("--all", "--error", "closed", "--since", "1h"), 1),
        (("--error", "closed"), 1),
        (("--since", "30m"), 1),
    ):
        answer = callbacks("dead", "replay", "refusing", *options)
        assert (answer.stdout, answer.exit_code) == (f"replayed: {replayed}\n", 0), options

    newest = ActionLog(harness.connection).list_newest(limit=9).items
    assert all("closed" not in action.chosen for action in newest)


def test_groups_by_error_count_only_those_that_match(harness: Harness) -> None:
    die(harness, "1", "2", "3")
    first, second, third = ids(harness, keys.dead("refusing"))
    give_error(harness, first, "shop is closed")
    give_error(harness, second, "shop is closed", age_ms=TWO_HOURS_MS)
    give_error(harness, third, "no such shop")

    for options, groups in (
        (("--since", "1h"), [("no such shop", 1), ("shop is closed", 1)]),
        (("--until", "1h"), [("shop is closed", 1)]),
        (("--error", "CLOSED"), [("shop is closed", 2)]),
    ):
        lines = callbacks("dead", "list", "refusing", "--group", "--json", *options).stdout.splitlines()
        assert [(group["error"], group["dead"]) for group in map(json.loads, lines)] == groups, options


@pytest.mark.parametrize("options", [("--error", "closed"), ("--since", "1h"), ("--until", "1h")])
def test_a_filter_without_a_handler_is_wrong_usage(harness: Harness, options: tuple[str, ...]) -> None:
    answer = callbacks("dead", "list", *options)

    assert answer.exit_code == 2
    assert "Give HANDLER: --error, --since and --until filter the dead letters of one handler." in answer.stderr


def test_only_those_that_match_are_dropped(harness: Harness) -> None:
    die(harness, "1", "2")
    first, second = ids(harness, keys.dead("refusing"))
    give_error(harness, first, "shop is closed")

    asked = callbacks("dead", "drop", "refusing", "--error", "CLOSED", text="y\n")

    assert "Drop 1 dead letter of 'refusing' permanently?" in asked.output
    assert ids(harness, keys.dead("refusing")) == [second]


@pytest.mark.parametrize("options", [(), ("--all", "0badc0de"), ("--since", "yesterday")])
def test_a_replay_without_a_clear_selection_is_wrong_usage(harness: Harness, options: tuple[str, ...]) -> None:
    die(harness, "1")

    assert callbacks("dead", "replay", "refusing", *options).exit_code == 2
    assert len(ids(harness, keys.dead("refusing"))) == 1


def test_show_names_the_message_and_each_attempt(harness: Harness) -> None:
    die(harness, "m-1")
    (event_id,) = ids(harness, keys.dead("refusing"))

    shown = callbacks("dead", "show", "refusing", event_id).output.splitlines()
    found = json.loads(callbacks("dead", "show", "refusing", event_id, "--json").output)

    assert "message   m-1" in shown
    assert any(line.endswith(": no; given up on") and "attempt 1 of 8" in line for line in shown)
    assert [(one["attempt"], one["result"], one["error"]) for one in found["delivery_log"]] == [(1, "dead", "no")]


def test_a_dead_letter_keeps_the_trace_of_its_event(harness: Harness) -> None:
    die(harness, "m-1")
    (event_id,) = ids(harness, keys.dead("refusing"))
    key, traceparent = keys.dead_letter("refusing", event_id), f"00-{'ab' * 16}-{'cd' * 8}-01"
    harness.connection.hset(key, "event", events.with_trace(harness.connection.hget(key, "event") or b"", traceparent))

    assert f"trace     {'ab' * 16}" in callbacks("dead", "show", "refusing", event_id).output
    assert callbacks("dead", "replay", "refusing", event_id).stdout == "replayed: 1\n"
    harness.deliver(refusing)
    assert ids(harness, keys.dead("refusing")) == [event_id]


def test_what_show_prints_as_json_is_an_event_for_handlers_try(harness: Harness) -> None:
    die(harness, "m-1")
    (event_id,) = ids(harness, keys.dead("refusing"))
    shown = callbacks("dead", "show", "refusing", event_id, "--json").output

    assert [event.id for event in event_input.parse(shown.encode())] == [event_id]
