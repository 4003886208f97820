"""Scheduled retries: what each shows, finding them, and trying them now: none is lost, and none tried twice."""

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
import redis
from click.testing import CliRunner, Result

from callbacks import ReplyEvent, ReportEvent, Retry, handler
from callbacks.cli.main import main
from shared import connections, keys, queue_jobs, queues
from tests.integration.admin.scheduled_events import closed, fail, rows
from tests.integration.faults import Faulty
from tests.integration.harness import HandlerTotals, Harness, due_now, open_harness, reply, statuses
from tests.integration.scripted_handlers import accept_and_expand, fail_for, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin import scheduled_retries
from workers.admin.action_log import ActionLog
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.runtime import pause
from workers.runtime.job_transitions import JobTransitions

QUEUE = queues.delivery_queue("single")


@handler(ReplyEvent)
def answering(event: ReplyEvent) -> None:
    raise Retry(3600)


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made


def callbacks(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ("retries", *arguments), input=text)


def locations(harness: Harness) -> list[str]:
    """Return the id of the event of each job that waits or is scheduled."""
    jobs = queue_jobs.read_jobs(harness.connection, QUEUE)
    return sorted(
        event[1]
        for job_id in (*jobs.waiting, *jobs.scheduled_at)
        for _, event in queue_jobs.read_delivery_job(harness.connection, job_id).events
    )


def test_a_retry_shows_its_event_error_attempt_and_time(harness: Harness) -> None:
    (row,) = fail(harness, "m-1")

    assert (row.handler, row.kind, row.message_id, row.status) == ("single", "report", "m-1", "DELIVRD")
    assert (row.attempt, row.attempts, row.events, row.error) == (2, 3, 1, "shop is closed")
    assert 3500 < row.next_at.timestamp() - time.time() <= 3600
    (again,) = harness.waiting_event_ids(other)
    assert row.id == again


def test_a_second_failure_replaces_error_and_attempt(harness: Harness) -> None:
    fail(harness, "m-1")
    due_now(harness, single)
    script.act = fail_for("m-1")

    harness.deliver(single)

    (row,) = rows(harness, RetryFilter())
    assert (row.attempt, row.error) == (3, "RuntimeError: no m-1 today")


@pytest.mark.parametrize("function", [single, whole], ids=["single", "batch"])
def test_numbers_and_texts_of_the_events_are_masked_in_the_error(harness: Harness, function: object) -> None:
    accept_and_expand(harness, "m-1", "m-2")

    def quoting(event: ReportEvent) -> None:
        raise LookupError(f"no account for {event.recipient} " + "x" * 5000)

    script.act = quoting
    harness.deliver(single)
    harness.deliver(whole)

    found = rows(harness, RetryFilter())
    assert [row.handler for row in found].count("single") == [row.handler for row in found].count("whole") == 2
    for row in found:
        assert row.error.startswith("LookupError: no account for 356*****001 xxx")
        assert len(row.error) == 256


def test_what_a_retry_stores_is_given_back_with_its_delivery(harness: Harness) -> None:
    with open_harness(harness.url, single) as made:
        accept_and_expand(made, "m-0")
        made.deliver(single)
        before = made.leftover_keys()
        fail(made, "m-1", "m-2")
        callbacks("now", "--yes")
        script.act = fail_for()

        made.deliver(single)

        assert made.leftover_keys() == before
        assert made.totals(single) == HandlerTotals(delivered=3)


def test_an_event_that_succeeds_at_once_stores_nothing_of_this(harness: Harness) -> None:
    accept_and_expand(harness, "m-1")

    (job_id,) = harness.waiting_jobs(QUEUE)
    assert not harness.connection.hexists(keys.job(job_id), "error")
    assert not harness.connection.hexists(keys.job(job_id), "attempts")


def test_a_promoted_retry_keeps_its_attempt(harness: Harness) -> None:
    fail(harness, "m-1")

    for attempt in (2, 3):
        assert [row.attempt for row in rows(harness, RetryFilter())] == [attempt]
        assert callbacks("now", "single", "--yes").stdout == "promoted: 1\n"
        harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(dead=1), "the third attempt was the last"
    assert len(script.calls) == 3


def test_the_list_has_a_line_for_each_the_first_to_be_tried_first(harness: Harness) -> None:
    fail(harness, "m-1", "m-2")
    _, second = rows(harness, RetryFilter())
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {second.job_id: time.time() + 90})

    one, two, total = callbacks("list").stdout.splitlines()

    assert one.split("  ")[:6] == ["single", second.id, "m-2", "DELIVRD", "356*****001", "attempt 2 of 3"]
    assert one.split("  ")[6].endswith((" (in 1 min)", " (in 2 min)"))
    assert one.split("  ")[7] == "shop is closed"
    assert two.split("  ")[2] == "m-1"
    assert total == "2 in total"
    as_json = [json.loads(line) for line in callbacks("list", "single", "--json").stdout.splitlines()]
    assert [one["message_id"] for one in as_json] == ["m-2", "m-1"]
    assert as_json[0] == {
        **as_json[0],
        "handler": "single",
        "id": second.id,
        "kind": "report",
        "status": "DELIVRD",
        "number": "356*****001",
        "attempt": 2,
        "attempts": 3,
        "error": "shop is closed",
        "events": 1,
    }
    assert as_json[0]["next_at"].endswith("Z")
    assert "35699000001" in callbacks("list", "--numbers", "full").stdout


def test_the_list_is_a_page_of_those_that_match(harness: Harness) -> None:
    fail(harness, *(f"m-{n}" for n in range(5)))
    odd = rows(harness, RetryFilter())[3]
    harness.connection.hset(keys.job(odd.job_id), "error", "Shop Burnt DOWN")

    def listed(*options: str) -> list[str]:
        return [line.split("  ")[2] for line in callbacks("list", *options).stdout.splitlines()[:-1]]

    assert listed("--limit", "2") == ["m-0", "m-1"]
    assert listed("--skip", "2", "--limit", "2") == ["m-2", "m-3"]
    assert listed("--error", "closed", "--skip", "3") == ["m-4"]
    assert listed("--error", "burnt down") == ["m-3"]
    assert listed("--message", "m-3") == listed("--message", str(odd.id)) == ["m-3"]
    assert listed("--message", "m-3", "--error", "closed") == []
    assert callbacks("list", "--limit", "2").stdout.splitlines()[-1] == "5 in total; more: --skip 2"
    assert callbacks("list", "--error", "no such").stdout == "0 shown; 5 in total\n"


def test_a_reply_is_found_by_each_of_its_ids(harness: Harness) -> None:
    with open_harness(harness.url, answering) as made:
        made.accept(reply("r-1"), reply("r-2", "q-2"))
        made.expand()
        made.deliver(answering)

        assert [row.message_id for row in rows(made, RetryFilter(message="r-1"))] == ["r-1"]
        assert [row.message_id for row in rows(made, RetryFilter(message="q-2"))] == ["r-2"]
        assert {row.kind for row in rows(made, RetryFilter())} == {"reply"}
        assert " reply " in callbacks("list").stdout
        assert {row.error for row in rows(made, RetryFilter())} == {"the handler asked for another attempt"}


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


def test_a_job_that_this_service_failed_with_is_one_retry(harness: Harness) -> None:
    accept_and_expand(harness, "m-1", "m-2")
    (job_id,) = harness.waiting_jobs(QUEUE)
    harness.connection.hset(keys.job(job_id), mapping={"failures": 2, "status": "scheduled"})
    harness.connection.delete(keys.rq_queue(QUEUE))
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {job_id: time.time() + 60})

    (row,) = rows(harness, RetryFilter())
    line, _ = callbacks("list").stdout.splitlines()

    assert (row.events, row.message_id, row.attempt, row.attempts) == (2, "m-1", 1, None)
    assert "attempt 1, 2 events" in line
    assert "2 runs of its job failed in this service" in line
    assert callbacks("now", "--message", "m-2", "--yes").stdout == "promoted: 1\n"
    harness.deliver(single)
    assert script.called == ["m-1", "m-2"]


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


def test_what_cannot_be_read_is_listed_and_promoted(harness: Harness) -> None:
    first, second, third = (row.job_id for row in fail(harness, "m-1", "m-2", "m-3"))
    harness.connection.hset(keys.job(first), "data", queues.encode_call(queues.DELIVER_JOB, (99, "single", 2, [])))
    harness.connection.delete(keys.job(second))
    harness.connection.hdel(keys.job(third), "error", "attempts")

    assert [(row.job_id, row.id is None, row.error) for row in rows(harness, RetryFilter())] == [
        (first, True, "shop is closed"),
        (third, False, ""),
    ]
    assert callbacks("list").exit_code == 0
    assert callbacks("now", "--yes").stdout == "promoted: 2\n"
    assert harness.waiting_jobs(QUEUE) == [first, third]


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


def test_a_page_reads_a_bounded_number(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduled_retries, "JOBS_PER_STEP", 4)
    fail(harness, *(f"m-{n}" for n in range(20)))
    found = ScheduledRetries(harness.connection)

    page = found.read_page(RetryFilter(message="m-19"), limit=5, max_scanned=8)
    assert (page.rows, page.scanned, page.next_cursor is not None) == ((), 8, True)
    rest = found.read_page(RetryFilter(message="m-19"), after=page.next_cursor, limit=5)
    assert [row.message_id for row in rest.rows] == ["m-19"]
    assert [row.message_id for row in found.iterate(RetryFilter(), skip=17)] == ["m-17", "m-18", "m-19"]


@pytest.mark.parametrize("text", ["", "1", "1-", "-a", "x-a", "1-x", "nan-a", "1e400-a", "1-a b", f"{'1' * 99}-a"])
def test_what_is_not_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        RetryCursor.parse(text)


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
