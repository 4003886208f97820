"""Acts on many entries: carried out in parts, stopped, broken off, gone on with; each entry once, and none lost."""

import threading
from collections.abc import Iterator

import pytest
import redis

from callbacks.ops.pages.bulk_actions import BulkActionRunner
from shared import connections, keys
from tests.integration.failures.failure_lists import die, ids, quarantined, refusing
from tests.integration.harness import RECEIVED_MS, Harness, open_harness
from tests.redis_server import RedisServer
from workers.admin.action_log import Action
from workers.admin.bulk_action import BulkActions, BulkActionState, NothingToResume, RemainingWork, Task
from workers.failures.cursor import Cursor, FailureFilter

ALL = Cursor.before(RECEIVED_MS + 10_000)
MANY = 350


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing) as made:
        yield made


@pytest.fixture
def actions(harness: Harness) -> BulkActions:
    return BulkActions(harness.connection)


def fill(harness: Harness, number: int, *, first: int = 0) -> None:
    totals = range(first, first + number)
    harness.accept(quarantined=[quarantined(each, at_ms=RECEIVED_MS + each) for each in totals])


def begin(actions: BulkActions, work: RemainingWork, *, number: int | None = None) -> str:
    where = work.failure_list.name
    return actions.start(Action(who="anna", by="page", what=work.task, where=where, chosen="all", number=number), work)


def state_of(actions: BulkActions, action_id: str) -> BulkActionState:
    state = actions.get_state(action_id)
    assert state is not None
    return state


class After:
    """Says "stop" after it was asked this many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("task", ["replay", "drop"])
def test_all_that_match_are_done_and_the_rest_and_what_came_later_stay(
    harness: Harness, actions: BulkActions, task: Task
) -> None:
    fill(harness, MANY)
    for failure_id in ids(harness, keys.QUARANTINE)[::2]:
        harness.connection.hset(keys.quarantined(failure_id), "error", "another")
    harness.accept(quarantined=[quarantined(9999, at_ms=RECEIVED_MS + 20_000)])

    action_id = begin(
        actions, RemainingWork(task=task, handler=None, failure_filter=FailureFilter(error="older rule"), cursor=ALL)
    )
    actions.run(action_id, is_stopping=bool)

    logged = state_of(actions, action_id).action
    assert (logged.state, logged.done, logged.failed) == ("done", MANY // 2, 0)
    assert len(ids(harness, keys.QUARANTINE)) == MANY // 2 + 1
    assert len(harness.waiting_jobs("expand")) == (MANY // 2 if task == "replay" else 0)
    assert harness.audit().balances


def test_of_an_act_that_is_gone_nobody_is_said_to_be_carrying_it_out(harness: Harness, actions: BulkActions) -> None:
    actions.run("gone", is_stopping=bool)

    assert not harness.connection.exists(keys.action_runner("gone"))


def test_named_entries_are_done_and_one_that_is_gone_is_a_failure(harness: Harness, actions: BulkActions) -> None:
    die(harness, *map(str, range(130)))
    named = ids(harness, keys.dead("refusing"))[:120]
    harness.connection.delete(keys.dead_letter("refusing", named[5]))
    harness.connection.hset(keys.dead_letter("refusing", named[7]), "event", '["letter"]')

    action_id = begin(actions, RemainingWork(task="replay", handler="refusing", ids=tuple(named)))
    actions.run(action_id, is_stopping=bool)

    state = state_of(actions, action_id)
    assert (state.action.state, state.action.done, state.action.failed) == ("done", 118, 2)
    assert state.work is not None
    assert sorted(failure_id for failure_id, _ in state.work.errors) == sorted((named[5], named[7]))
    assert sorted(harness.waiting_event_ids(refusing)) == sorted(set(named) - {named[5], named[7]})


def test_an_act_that_was_stopped_is_gone_on_with_by_who_wants_to(harness: Harness, actions: BulkActions) -> None:
    fill(harness, MANY)
    action_id = begin(actions, RemainingWork(task="drop", handler=None, cursor=ALL), number=MANY)

    actions.run(action_id, is_stopping=After(2))

    stopped = state_of(actions, action_id)
    assert (stopped.action.state, stopped.action.done, stopped.is_running) == ("stopped", 200, False)
    assert len(ids(harness, keys.QUARANTINE)) == MANY - 200
    rest = actions.resume(action_id, "berta")
    actions.run(rest, is_stopping=bool)
    logged = state_of(actions, rest).action
    assert (logged.who, logged.number, logged.done, logged.state) == ("berta", MANY - 200, MANY - 200, "done")
    assert logged.chosen == "rest: all"
    assert ids(harness, keys.QUARANTINE) == []
    assert (harness.audit().dropped, harness.audit().balances) == (MANY, True)
    for nothing_left in (action_id, rest, "none"):
        with pytest.raises(NothingToResume):
            actions.resume(nothing_left, "carla")


def test_a_stop_that_is_asked_for_ends_it_after_the_part_under_way(harness: Harness, actions: BulkActions) -> None:
    fill(harness, MANY)
    action_id = begin(actions, RemainingWork(task="drop", handler=None, cursor=ALL))
    actions.stop(action_id)

    actions.run(action_id, is_stopping=bool)

    assert (state_of(actions, action_id).action.state, state_of(actions, action_id).action.done) == ("stopped", 100)


def test_one_who_was_killed_leaves_an_act_that_is_begun_and_another_goes_on(
    harness: Harness, actions: BulkActions
) -> None:
    fill(harness, MANY)
    action_id = begin(actions, RemainingWork(task="drop", handler=None, cursor=ALL))

    def killed() -> bool:
        if After.__call__(countdown):
            raise SystemExit
        return False

    countdown = After(2)
    with pytest.raises(SystemExit):
        actions.run(action_id, is_stopping=killed)

    held = state_of(actions, action_id)
    assert (held.action.state, held.action.done, held.is_running) == ("running", 200, True)
    with pytest.raises(NothingToResume):
        actions.resume(action_id, "berta")
    harness.connection.delete(keys.action_runner(action_id))  # as its time would
    actions.run(actions.resume(action_id, "berta"), is_stopping=bool)
    assert (harness.audit().dropped, harness.audit().balances, ids(harness, keys.QUARANTINE)) == (MANY, True, [])


def test_of_several_who_carry_an_act_out_at_once_one_does(harness: Harness, actions: BulkActions) -> None:
    fill(harness, MANY)
    action_id = begin(actions, RemainingWork(task="replay", handler=None, cursor=ALL))

    def run() -> None:
        with connections.connect(harness.url) as connection:
            BulkActions(connection).run(action_id, is_stopping=bool)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert state_of(actions, action_id).action.done == len(harness.waiting_jobs("expand")) == MANY
    assert harness.audit().balances


def test_a_runner_that_was_silent_for_too_long_leaves_it_to_the_one_that_resumed(
    harness: Harness, actions: BulkActions
) -> None:
    fill(harness, MANY)
    action_id = begin(actions, RemainingWork(task="drop", handler=None, cursor=ALL))
    others: list[str] = []

    def overtaken() -> bool:
        if not others:
            harness.connection.delete(keys.action_runner(action_id))
            others.append(actions.resume(action_id, "berta"))
        return False

    actions.run(action_id, is_stopping=overtaken)

    assert not harness.connection.exists(keys.action_work(action_id))
    assert len(ids(harness, keys.QUARANTINE)) == MANY - 100
    actions.run(others[0], is_stopping=bool)
    assert (harness.audit().dropped, harness.audit().balances) == (MANY, True)


def test_when_redis_fails_amid_it_the_act_says_how_far_it_came(harness: Harness, actions: BulkActions) -> None:
    fill(harness, MANY)
    action_id = begin(actions, RemainingWork(task="replay", handler=None, cursor=ALL))

    def full() -> bool:
        if After.__call__(countdown):
            harness.connection.rename(keys.COUNTS, "elsewhere")
            harness.connection.set(keys.COUNTS, "no hash")
        return False

    countdown = After(2)
    with pytest.raises(redis.ResponseError):
        actions.run(action_id, is_stopping=full)

    logged = state_of(actions, action_id).action
    assert (logged.state, logged.done, logged.why) == ("failed", 200, "ResponseError")


def test_nothing_of_what_is_left_to_do_lives_longer_than_a_day(harness: Harness, actions: BulkActions) -> None:
    fill(harness, MANY)
    action_id = begin(
        actions, RemainingWork(task="drop", handler=None, failure_filter=FailureFilter(error="older rule"), cursor=ALL)
    )
    actions.run(action_id, is_stopping=After(1))

    assert 0 < harness.connection.ttl(keys.action_work(action_id)) <= keys.DAY_SECONDS
    assert not harness.connection.exists(keys.action_runner(action_id))


def test_an_action_that_fails_by_what_nobody_foresaw_is_logged_noted_and_can_be_gone_on_with(
    harness: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(harness, MANY)
    runner = BulkActionRunner(harness.connection)
    part = BulkActions._run_step

    def fail(*_: object) -> RemainingWork:
        raise RuntimeError

    monkeypatch.setattr(BulkActions, "_run_step", fail)
    work = RemainingWork(task="drop", handler=None, cursor=ALL)
    action = Action(who="anna", by="page", what="drop", where="quarantine", chosen="all", number=MANY)
    runner.start(action, work, "one")
    runner.wait("one", seconds=60)

    state = runner.get_state("one")
    assert state is not None
    assert (state.action.state, state.action.why, state.is_running) == ("failed", "RuntimeError", False)
    (line,) = (record.getMessage() for record in caplog.records if "bulk_action_failed" in record.getMessage())
    assert line.startswith("action=bulk_action_failed id=one count=1 error=RuntimeError traceback=")

    monkeypatch.setattr(BulkActions, "_run_step", part)
    rest = runner.resume("one", "anna")
    runner.wait(rest, seconds=60)
    runner.close()
    assert ids(harness, keys.QUARANTINE) == []
