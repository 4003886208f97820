"""Acts on many entries: carried out in parts, stopped, broken off, gone on with; each entry once, and none lost."""

import threading
from collections.abc import Iterator

import pytest
import redis

from callbacks.ops.pages.bulk_actions import BulkActionRunner
from shared import connections, keys
from tests.integration.shelves import die, ids, quarantined, refusing
from tests.integration.workbench import RECEIVED_MS, Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer
from workers.admin.action_log import Deed
from workers.admin.bulk_action import Acting, NotLeft, Standing, Task, Work
from workers.failures.cursor import Place, Sieve

ALL = Place.before(RECEIVED_MS + 10_000)
MANY = 350


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, refusing) as made:
        yield made


@pytest.fixture
def acting(b: Bench) -> Acting:
    return Acting(b.connection)


def fill(b: Bench, number: int, *, first: int = 0) -> None:
    places = range(first, first + number)
    b.keep(quarantined=[quarantined(place, at_ms=RECEIVED_MS + place) for place in places])


def begin(acting: Acting, work: Work, *, number: int | None = None) -> str:
    where = work.shelf.name
    return acting.begin(Deed(who="anna", by="page", what=work.task, where=where, chosen="all", number=number), work)


def look(acting: Acting, action_id: str) -> Standing:
    standing = acting.look(action_id)
    assert standing is not None
    return standing


class After:
    """Says "stop" after it was asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("task", ["replay", "drop"])
def test_all_that_match_are_done_and_the_rest_and_what_came_later_stay(b: Bench, acting: Acting, task: Task) -> None:
    fill(b, MANY)
    for entry_id in ids(b, keys.QUARANTINE)[::2]:
        b.connection.hset(keys.quarantined(entry_id), "error", "another")
    b.keep(quarantined=[quarantined(9999, at_ms=RECEIVED_MS + 20_000)])

    action_id = begin(acting, Work(task=task, handler=None, sieve=Sieve(error="older rule"), place=ALL))
    acting.carry_out(action_id, is_stopping=bool)

    noted = look(acting, action_id).noted
    assert (noted.state, noted.done, noted.failed) == ("done", MANY // 2, 0)
    assert len(ids(b, keys.QUARANTINE)) == MANY // 2 + 1
    assert len(b.waiting("expand")) == (MANY // 2 if task == "replay" else 0)
    assert b.audit().balances


def test_of_an_act_that_is_gone_nobody_is_said_to_be_carrying_it_out(b: Bench, acting: Acting) -> None:
    acting.carry_out("gone", is_stopping=bool)

    assert not b.connection.exists(keys.action_runner("gone"))


def test_named_entries_are_done_and_one_that_is_gone_is_a_failure(b: Bench, acting: Acting) -> None:
    die(b, *map(str, range(130)))
    named = ids(b, keys.dead("refusing"))[:120]
    b.connection.delete(keys.dead_letter("refusing", named[5]))
    b.connection.hset(keys.dead_letter("refusing", named[7]), "event", '["letter"]')

    action_id = begin(acting, Work(task="replay", handler="refusing", ids=tuple(named)))
    acting.carry_out(action_id, is_stopping=bool)

    standing = look(acting, action_id)
    assert (standing.noted.state, standing.noted.done, standing.noted.failed) == ("done", 118, 2)
    assert standing.work is not None
    assert sorted(entry_id for entry_id, _ in standing.work.failures) == sorted((named[5], named[7]))
    assert sorted(b.waiting_at(refusing)) == sorted(set(named) - {named[5], named[7]})


def test_an_act_that_was_stopped_is_gone_on_with_by_who_wants_to(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="drop", handler=None, place=ALL), number=MANY)

    acting.carry_out(action_id, is_stopping=After(2))

    stopped = look(acting, action_id)
    assert (stopped.noted.state, stopped.noted.done, stopped.is_carried_out) == ("stopped", 200, False)
    assert len(ids(b, keys.QUARANTINE)) == MANY - 200
    rest = acting.go_on(action_id, "berta")
    acting.carry_out(rest, is_stopping=bool)
    noted = look(acting, rest).noted
    assert (noted.who, noted.number, noted.done, noted.state) == ("berta", MANY - 200, MANY - 200, "done")
    assert noted.chosen == "rest: all"
    assert ids(b, keys.QUARANTINE) == []
    assert (b.audit().dropped, b.audit().balances) == (MANY, True)
    for nothing_left in (action_id, rest, "none"):
        with pytest.raises(NotLeft):
            acting.go_on(nothing_left, "carla")


def test_a_stop_that_is_asked_for_ends_it_after_the_part_under_way(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="drop", handler=None, place=ALL))
    acting.stop(action_id)

    acting.carry_out(action_id, is_stopping=bool)

    assert (look(acting, action_id).noted.state, look(acting, action_id).noted.done) == ("stopped", 100)


def test_one_who_was_killed_leaves_an_act_that_is_begun_and_another_goes_on(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="drop", handler=None, place=ALL))

    def killed() -> bool:
        if After.__call__(countdown):
            raise SystemExit
        return False

    countdown = After(2)
    with pytest.raises(SystemExit):
        acting.carry_out(action_id, is_stopping=killed)

    held = look(acting, action_id)
    assert (held.noted.state, held.noted.done, held.is_carried_out) == ("running", 200, True)
    with pytest.raises(NotLeft):
        acting.go_on(action_id, "berta")
    b.connection.delete(keys.action_runner(action_id))  # as its time would
    acting.carry_out(acting.go_on(action_id, "berta"), is_stopping=bool)
    assert (b.audit().dropped, b.audit().balances, ids(b, keys.QUARANTINE)) == (MANY, True, [])


def test_of_several_who_carry_an_act_out_at_once_one_does(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="replay", handler=None, place=ALL))

    def carry_out() -> None:
        with connections.connect(b.url) as connection:
            Acting(connection).carry_out(action_id, is_stopping=bool)

    threads = [threading.Thread(target=carry_out) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert look(acting, action_id).noted.done == len(b.waiting("expand")) == MANY
    assert b.audit().balances


def test_whoever_was_silent_for_too_long_leaves_it_to_who_went_on(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="drop", handler=None, place=ALL))
    others: list[str] = []

    def overtaken() -> bool:
        if not others:
            b.connection.delete(keys.action_runner(action_id))
            others.append(acting.go_on(action_id, "berta"))
        return False

    acting.carry_out(action_id, is_stopping=overtaken)

    assert not b.connection.exists(keys.action_work(action_id))
    assert len(ids(b, keys.QUARANTINE)) == MANY - 100
    acting.carry_out(others[0], is_stopping=bool)
    assert (b.audit().dropped, b.audit().balances) == (MANY, True)


def test_when_redis_fails_amid_it_the_act_says_how_far_it_came(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="replay", handler=None, place=ALL))

    def full() -> bool:
        if After.__call__(countdown):
            b.connection.rename(keys.COUNTS, "elsewhere")
            b.connection.set(keys.COUNTS, "no hash")
        return False

    countdown = After(2)
    with pytest.raises(redis.ResponseError):
        acting.carry_out(action_id, is_stopping=full)

    noted = look(acting, action_id).noted
    assert (noted.state, noted.done, noted.why) == ("failed", 200, "ResponseError")


def test_nothing_of_what_is_left_to_do_lives_longer_than_a_day(b: Bench, acting: Acting) -> None:
    fill(b, MANY)
    action_id = begin(acting, Work(task="drop", handler=None, sieve=Sieve(error="older rule"), place=ALL))
    acting.carry_out(action_id, is_stopping=After(1))

    assert 0 < b.connection.ttl(keys.action_work(action_id)) <= keys.DAY_SECONDS
    assert not b.connection.exists(keys.action_runner(action_id))


def test_an_action_that_fails_by_what_nobody_foresaw_is_logged_noted_and_can_be_gone_on_with(
    b: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(b, MANY)
    runner = BulkActionRunner(b.connection)
    part = Acting._part

    def fail(*_: object) -> Work:
        raise RuntimeError

    monkeypatch.setattr(Acting, "_part", fail)
    work = Work(task="drop", handler=None, place=ALL)
    deed = Deed(who="anna", by="page", what="drop", where="quarantine", chosen="all", number=MANY)
    runner.start(deed, work, "one")
    runner.wait("one", seconds=60)

    standing = runner.get_state("one")
    assert standing is not None
    assert (standing.noted.state, standing.noted.why, standing.is_carried_out) == ("failed", "RuntimeError", False)
    (line,) = (record.getMessage() for record in caplog.records if "bulk_action_failed" in record.getMessage())
    assert line.startswith("action=bulk_action_failed id=one count=1 RuntimeError\n")

    monkeypatch.setattr(Acting, "_part", part)
    rest = runner.resume("one", "anna")
    runner.wait(rest, seconds=60)
    runner.close()
    assert ids(b, keys.QUARANTINE) == []
