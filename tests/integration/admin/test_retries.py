"""Scheduled retries: what each shows, what it stores, and finding them in lists and pages."""

import json
import time
from collections.abc import Iterator

import pytest

from callbacks import ReplyEvent, ReportEvent, Retry, handler
from shared import keys, queues
from tests.integration.admin.scheduled_events import QUEUE, callbacks, fail, rows
from tests.integration.harness import HandlerTotals, Harness, due_now, open_harness, reply
from tests.integration.scripted_handlers import accept_and_expand, fail_for, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin import scheduled_retries
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries


@handler(ReplyEvent)
def answering(event: ReplyEvent) -> None:
    raise Retry(3600)


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made


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
