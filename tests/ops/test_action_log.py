"""The trail of what operators did: begun before, ended after, bounded, and without a word that is not ours."""

import logging
from collections.abc import Iterator

import pytest
import redis

from shared import keys
from tests.integration.harness import Harness, open_harness
from tests.redis_server import RedisServer, StartRedis
from workers.admin.action_log import (
    Action,
    ActionLog,
    ActionProgress,
    AlreadyStarted,
    LoggedAction,
    describe_filter,
    describe_ids,
    new_id,
)
from workers.failures.cursor import Cursor, FailureFilter


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url) as made:
        yield made


@pytest.fixture
def log(harness: Harness) -> ActionLog:
    return ActionLog(harness.connection)


def action(**more: object) -> Action:
    return Action(**{"who": "anna", "by": "page", "what": "drop", "where": "quarantine", "chosen": "all"} | more)  # type: ignore[arg-type]


def only(log: ActionLog) -> LoggedAction:
    (logged,) = log.list_newest(limit=9).items
    return logged


def test_an_act_is_noted_before_anything_is_done_and_again_at_its_end(log: ActionLog) -> None:
    with log.record(action(number=7)) as progress:
        begun = only(log)
        progress.done, progress.failed = 5, 2

    assert (begun.state, begun.ended_at, begun.who, begun.number) == ("running", None, "anna", 7)
    ended = only(log)
    assert (ended.state, ended.done, ended.failed, ended.why) == ("done", 5, 2, "")
    assert ended.ended_at is not None
    assert log.find(ended.action_id) == ended
    assert log.find("none") is None


def test_an_act_that_fails_half_way_is_noted_with_how_far_it_came_and_only_the_kind_of_its_error(
    log: ActionLog,
) -> None:
    def fail() -> None:
        with log.record(action()) as progress:
            progress.done = 3
            raise ValueError("35699000001 says yes")

    with pytest.raises(ValueError, match="35699000001"):
        fail()

    assert (only(log).state, only(log).done, only(log).why) == ("failed", 3, "ValueError")


def test_an_act_that_was_broken_off_is_noted_as_stopped(log: ActionLog) -> None:
    with pytest.raises(KeyboardInterrupt), log.record(action()):
        raise KeyboardInterrupt

    assert only(log).state == "stopped"


def test_the_newest_come_first_a_page_at_a_time(log: ActionLog) -> None:
    for number in range(5):
        with log.record(action(number=number)):
            pass

    numbers: list[int] = []
    cursor: Cursor | None = None
    while True:
        part = log.list_newest(after=cursor, limit=2)
        numbers += [logged.number for logged in part.items if logged.number is not None]
        cursor = part.next_cursor
        if cursor is None:
            break
    assert sorted(numbers) == [0, 1, 2, 3, 4]  # acts of one millisecond are in no order


def test_no_more_than_the_limit_are_kept(harness: Harness, log: ActionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "ACTIONS_KEPT", 3)
    for number in range(6):
        log.end(log.start(action(number=number)), action(), ActionProgress(), state="done")

    kept = {key.decode() for key in harness.connection.scan_iter(f"{keys.ACTIONS}*")}
    assert len(log.list_newest(limit=9).items) == 3
    assert kept == {keys.ACTIONS, *(keys.action(logged.action_id) for logged in log.list_newest(limit=9).items)}
    assert all(harness.connection.ttl(key) > 0 for key in kept - {keys.ACTIONS})


def test_neither_action_log_nor_log_holds_a_text_or_a_whole_number(
    harness: Harness, log: ActionLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "callbacks.operators")
    words = describe_filter(FailureFilter(error="no such 35699000001", source="gw"))
    with log.record(action(who='35699000001" \u202e\nadmin', chosen=words)):
        pass

    logged = only(log)
    assert (logged.who, logged.chosen) == (
        "(number)    admin",
        "all with source gw, error contains a text of 19 characters",
    )
    kept = b"".join(
        value for key in harness.connection.scan_iter() if b":" in key[3:] for value in fields(harness, key)
    )
    lines = "\n".join(caplog.messages)
    assert [message.split()[0] for message in caplog.messages] == [
        "action=operator_action_started",
        "action=operator_action_ended",
    ]
    for hidden in ("35699000001", "no such", "\u202e"):
        assert hidden not in lines
        assert hidden.encode() not in kept


def test_an_act_that_is_asked_for_twice_is_begun_once(log: ActionLog) -> None:
    action_id = new_id()
    log.start(action(), action_id)
    log.end(action_id, action(), ActionProgress(), state="done")

    with pytest.raises(AlreadyStarted):
        log.start(action(), action_id)
    assert only(log).state == "done"


def test_what_is_chosen_is_said_in_words() -> None:
    assert describe_filter(FailureFilter()) == "all"
    assert (
        describe_filter(FailureFilter(kind="unknown", error="x"))
        == "all with kind unknown, error contains a text of 1 character"
    )
    assert describe_ids(3) == "3 by id"


def test_while_redis_is_full_it_is_done_anyway(start_redis: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    server = start_redis()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        with ActionLog(client).record(action()) as progress:
            progress.done = 1

    assert any("action=operator_action_not_logged what=drop where=quarantine" in message for message in caplog.messages)


def fields(harness: Harness, key: bytes) -> list[bytes]:
    found: list[bytes] = harness.connection.hvals(key)
    return found
