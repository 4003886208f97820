"""Retries are tried now: those that an operator chooses, none is lost, and none is tried twice."""

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
import redis

from shared import connections, keys
from tests.integration.admin.scheduled_events import QUEUE, callbacks, closed, fail, locations, rows
from tests.integration.faults import Faulty
from tests.integration.harness import HandlerTotals, Harness, due_now, open_harness, statuses
from tests.integration.scripted_handlers import accept_and_expand, fail_for, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin import scheduled_retries
from workers.admin.action_log import ActionLog
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.runtime import pause
from workers.runtime.job_transitions import JobTransitions


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made


def test_a_promoted_retry_keeps_its_attempt(harness: Harness) -> None:
    fail(harness, "m-1")

    for attempt in (2, 3):
        assert [row.attempt for row in rows(harness, RetryFilter())] == [attempt]
        assert callbacks("now", "single", "--yes").stdout == "promoted: 1\n"
        harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(dead=1), "the third attempt was the last"
    assert len(script.calls) == 3


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ((), 0),
        (("single",), 0),
        (("other",), 3),
        (("single", "--error", "CLOSED"), 0),
        (("--error", "burnt"), 3),
        (("--message", "m-1"), 2),
        (("single", "--message", "m-7"), 3),
    ],
)
def test_those_that_match_are_promoted(harness: Harness, options: tuple[str, ...], left: int) -> None:
    fail(harness, "m-1", "m-2", "m-3")
    before = locations(harness)

    answer = callbacks("now", *options, "--yes")

    assert (answer.exit_code, answer.stdout) == (0, f"promoted: {3 - left}\n"), answer.output
    assert len(rows(harness, RetryFilter())) == left
    assert len(harness.waiting_jobs(QUEUE)) == 3 - left
    assert locations(harness) == before
    (logged,) = ActionLog(harness.connection).list_newest(limit=5).items
    assert (logged.what, logged.by, logged.number, logged.done) == ("retry", "command", 3 - left, 3 - left)
    handler = options[:1] if options[:1] in (("single",), ("other",)) else ()
    assert logged.where == ":".join(("retries", *handler))
    assert "burnt" not in logged.chosen
    assert "m-" not in logged.chosen


def test_those_of_ids_are_promoted_and_an_unknown_id_is_named(harness: Harness) -> None:
    first, second, _ = (str(row.id) for row in fail(harness, "m-1", "m-2", "m-3"))

    assert callbacks("now", "single", first, "--yes").stdout == "promoted: 1\n"
    assert callbacks("now", second, "--yes").stdout == "promoted: 1\n", "the handler need not be named"
    answer = callbacks("now", "single", first, "--yes")
    as_json = callbacks("now", "single", first, "--yes", "--json")

    assert (answer.exit_code, answer.stdout) == (1, "promoted: 0\n")
    assert answer.stderr == f"{first}: There is no retry of this event.\n"
    assert list(map(json.loads, as_json.stdout.splitlines())) == [
        {"id": first, "error": "There is no retry of this event."},
        {"promoted": 0, "gone": 0, "interrupted": False},
    ]
    assert len(rows(harness, RetryFilter())) == 1


def test_it_asks_before(harness: Harness) -> None:
    fail(harness, "m-1", "m-2")

    refused = callbacks("now", "single", text="n\n")
    nobody = callbacks("now", text="")

    assert refused.exit_code == nobody.exit_code == 1
    assert "Try 2 retries of 'single' now? [y/N]" in refused.stderr
    assert len(rows(harness, RetryFilter())) == 2
    assert "Try 1 retry now?" in callbacks("now", "--message", "m-1", text="y\n").stderr
    assert len(rows(harness, RetryFilter())) == 1


def test_wrong_usage_is_refused(harness: Harness) -> None:
    fail(harness, "m-1")

    for arguments, words in (
        (("list", "singel"), "did you mean 'single'?"),
        (("now", "singel", "--yes"), "did you mean 'single'?"),
        (("now", "single", "ab12", "--message", "m-1", "--yes"), "not both"),
    ):
        answer = callbacks(*arguments)
        assert answer.exit_code == 2
        assert words in answer.stderr
    assert len(rows(harness, RetryFilter())) == 1


def test_it_says_that_those_of_a_paused_handler_wait(harness: Harness) -> None:
    fail(harness, "m-1")
    pause.pause(harness.connection, "single")

    assert "'single' is paused" in callbacks("list").stderr
    answer = callbacks("now", "--yes")

    assert answer.stdout == "promoted: 1\n"
    assert "They wait: 'single' is paused" in answer.stderr
    assert "callbacks handlers resume single" in answer.stderr
    harness.deliver(single, max_jobs=1)
    assert len(script.calls) == 1


def test_it_says_that_no_worker_is_running(harness: Harness) -> None:
    fail(harness, "m-1")

    assert "no worker of 'single' is running" in callbacks("now", "--yes").stderr


def test_of_a_job_with_several_events_each_id_is_known_and_an_unknown_one_is_named(harness: Harness) -> None:
    accept_and_expand(harness, "m-1", "m-2")
    (job_id,) = harness.waiting_jobs(QUEUE)
    first, second = harness.waiting_event_ids(single)
    harness.connection.hset(keys.job(job_id), "status", "scheduled")
    harness.connection.delete(keys.rq_queue(QUEUE))
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {job_id: time.time() + 60})
    unknown = "0" * len(first)

    answer = callbacks("now", "single", second, unknown, "--yes")

    assert (answer.exit_code, answer.stdout) == (1, "promoted: 1\n")
    assert answer.stderr.startswith(f"{unknown}: There is no retry of this event.\n")
    assert first not in answer.stderr
    assert second not in answer.stderr


def test_pages_have_each_once_though_others_are_promoted_meanwhile(harness: Harness) -> None:
    job_ids = [row.job_id for row in fail(harness, *(f"m-{n}" for n in range(30)))]
    due = {job_id: 2e9 + n // 7 / 8 for n, job_id in enumerate(sorted(job_ids))}
    harness.connection.zadd(keys.rq_scheduled(QUEUE), due)
    found = ScheduledRetries(harness.connection)

    seen: list[str] = []
    cursor: RetryCursor | None = None
    while True:
        page = found.read_page(RetryFilter(), after=cursor, limit=4)
        seen += (row.job_id for row in page.rows)
        found.promote((row.handler, row.job_id) for row in page.rows[::2])
        if page.next_cursor is None:
            break
        cursor = RetryCursor.parse(page.next_cursor.text)
        assert cursor == page.next_cursor

    assert seen == sorted(job_ids)


def test_one_that_another_has_moved_is_not_moved_again(harness: Harness) -> None:
    first, second = ((row.handler, row.job_id) for row in fail(harness, "m-1", "m-2"))
    found = ScheduledRetries(harness.connection)

    assert found.promote([first, first]) == 1, "named twice"
    due_now(harness, single)
    assert found.promote([first, second]) == 0, "promoted by an operator, and because it was due"
    assert harness.waiting_jobs(QUEUE) == [first[1], second[1]]
    harness.deliver(single, max_jobs=1)
    assert found.promote([first, second]) == 0, "settled"


def test_several_that_promote_at_once_move_each_once(harness: Harness) -> None:
    """Operators, the maintenance of two supervisors, and a worker that claims what was promoted."""
    harness.accept(*statuses([f"m-{n}" for n in range(300)]))
    harness.expand()
    script.act = closed
    harness.deliver(single)
    job_ids = [row.job_id for row in rows(harness, RetryFilter(handler="single"))]
    assert len(job_ids) == 300
    harness.connection.zadd(keys.rq_scheduled(QUEUE), dict.fromkeys(job_ids[::2], time.time() - 1))
    script.calls.clear()
    script.act = fail_for()
    start = threading.Barrier(5)
    errors: list[BaseException] = []

    def promote(now: bool) -> None:
        connection = connections.connect(harness.url)
        try:
            start.wait()
            while connection.exists(keys.rq_scheduled(QUEUE)):
                if now:
                    found = ScheduledRetries(connection)
                    members, _ = found.find(RetryFilter(handler="single"))
                    for member in members:
                        found.promote([(member.handler, member.cursor.job_id)])
                else:
                    JobTransitions(QUEUE, connection=connection).promote_due(limit=3)
        except BaseException as exc:  # noqa: BLE001 # shown by the assertion below
            errors.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=promote, args=(now,)) for now in (True, True, False, False)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        harness.deliver(single)
    harness.deliver(single)

    assert not errors
    assert sorted(script.called) == sorted(f"m-{n}" for n in range(300)), "each was called once"
    assert harness.totals(single) == HandlerTotals(delivered=300)


def promote_in_steps(url: str, at: int) -> None:
    """Promote all in steps of two; before this exchange with Redis the process dies."""
    Faulty.at = at
    scheduled_retries.JOBS_PER_STEP = 2  # type: ignore[misc]
    found = ScheduledRetries(redis.Redis(connection_pool=redis.ConnectionPool.from_url(url, connection_class=Faulty)))
    cursor: RetryCursor | None = RetryCursor()
    while cursor is not None:
        members, cursor = found.find(RetryFilter(), after=cursor)
        found.promote((member.handler, member.cursor.job_id) for member in members)


def test_none_is_lost_or_twice_there_if_promoting_is_killed_anywhere(harness: Harness) -> None:
    before = [str(row.id) for row in fail(harness, *(f"m-{n}" for n in range(5)))]
    processes = multiprocessing.get_context("forkserver")

    ends = []
    for at in count(1):
        process = processes.Process(target=promote_in_steps, args=(harness.url, at))
        process.start()
        process.join()
        ends.append(len(harness.waiting_jobs(QUEUE)))
        assert locations(harness) == sorted(before)
        if ends[-1] == len(before) and process.exitcode == 0:
            break
        # Back to where it began: none is promoted.
        for job_id in harness.waiting_jobs(QUEUE):
            harness.connection.lrem(keys.rq_queue(QUEUE), 1, job_id)
            harness.connection.zadd(keys.rq_scheduled(QUEUE), {job_id: time.time() + 3600})

    assert {0, 2, 4, 5} <= set(ends), "it ended before each step"


def test_they_are_promoted_while_redis_is_full(harness: Harness) -> None:
    (row,) = fail(harness, "m-1")
    max_bytes = harness.connection.config_get("maxmemory")["maxmemory"]
    harness.connection.config_set("maxmemory", harness.connection.info("memory")["used_memory"] // 2)
    try:
        answer = callbacks("now", "--yes")
    finally:
        harness.connection.config_set("maxmemory", max_bytes)

    assert answer.stdout == "promoted: 1\n", answer.output
    assert harness.waiting_jobs(QUEUE) == [row.job_id]
