"""Giving up on retries: their events are dead letters at once, each counted once, whatever happens at the same time."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from shared import connections, keys, queues
from tests.integration.admin.scheduled_events import fail, rows
from tests.integration.harness import HandlerTotals, Harness, open_harness
from tests.integration.scripted_handlers import other, single
from tests.redis_server import RedisServer
from workers.admin.action_log import ActionLog
from workers.admin.give_up import GivenUp, GiveUpStep
from workers.admin.retry_rows import RetryRow
from workers.admin.scheduled_retries import ScheduledRetries

QUEUE = queues.delivery_queue("single")


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    with open_harness(quick_redis.url, single, other) as made:
        yield made


def callbacks(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ("retries", "give-up", *arguments), input=text)


def give_up(harness: Harness, *retries: RetryRow) -> GivenUp:
    return GiveUpStep(harness.connection).run((row.handler, row.job_id) for row in retries)


def test_the_events_are_dead_letters_with_their_last_error(harness: Harness) -> None:
    first, *_ = fail(harness, "m-1", "m-2", "m-3")

    answer = callbacks("single", "--message", "m-1", "--yes")

    assert (answer.exit_code, answer.stdout) == (0, "given up on: 1\n"), answer.output
    (letter,) = harness.dead_letters("single")
    assert (letter["error"], letter["attempts"], json.loads(letter["event"])[1]) == ("shop is closed", "1", first.id)
    assert {row.message_id for row in rows(harness)} == {"m-2", "m-3"}
    assert not harness.connection.exists(keys.job(first.job_id))
    assert harness.totals(single) == HandlerTotals(waiting=2, dead=1)
    assert harness.audit().balances
    (logged,) = ActionLog(harness.connection).list_newest(limit=5).items
    assert (logged.what, logged.by, logged.where, logged.done) == ("give_up", "command", "retries:single", 1)

    assert json.loads(callbacks("--yes", "--json").stdout) == {
        "given_up": 2, "left": 0, "gone": 0, "interrupted": False
    }  # fmt: skip
    assert (rows(harness), harness.audit().balances) == ([], True)
    harness.connection.delete(keys.DELIVERY_LOG)
    assert harness.totals(single) == HandlerTotals(dead=3)


def test_it_asks_before(harness: Harness) -> None:
    fail(harness, "m-1", "m-2")

    assert "Give up on 2 retries of 'single' now? [y/N]" in callbacks("single", text="n\n").stderr
    assert len(rows(harness)) == 2


def test_what_a_dead_workers_handler_had_finished_is_delivered(harness: Harness) -> None:
    first, second = fail(harness, "m-1", "m-2")
    harness.connection.hset(keys.job(first.job_id), "finished", "1")

    assert give_up(harness, first, second) == GivenUp(2)

    assert harness.totals(single) == HandlerTotals(delivered=1, dead=1)
    assert harness.audit().balances


@pytest.mark.parametrize("field", ["portions", "progress", "data", "coalesced"])
def test_what_is_not_a_retry_of_the_handlers_own_is_left(
    harness: Harness, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fail(harness, "m-1", "m-2")
    step = GiveUpStep(harness.connection)
    if field == "coalesced":
        harness.connection.rpush(keys.coalesced(first.job_id), "another")
    elif field == "data":
        harness.connection.hset(keys.job(first.job_id), "data", b"of a newer release")
    else:
        # As another process changes it after it was read.
        script_of_step = step._script

        def changing(**arguments: Any) -> Any:
            harness.connection.hset(keys.job(first.job_id), field, "1")
            return script_of_step(**arguments)

        monkeypatch.setattr(step, "_script", changing)

    assert step.run((row.handler, row.job_id) for row in (first, second)) == GivenUp(1, (first.job_id,))

    assert harness.connection.zscore(keys.rq_scheduled(QUEUE), first.job_id)
    assert len(harness.dead_letters("single")) == 1


def test_one_that_is_tried_at_the_same_time_is_either_tried_or_given_up_on(harness: Harness) -> None:
    found = fail(harness, *(f"m-{number}" for number in range(60)))
    pairs = [(row.handler, row.job_id) for row in found]
    start = threading.Barrier(2)
    promoted: list[int] = []

    def promote() -> None:
        with connections.connect(harness.url) as client:
            retries = ScheduledRetries(client)
            start.wait()
            promoted.extend(retries.promote([pair]) for pair in reversed(pairs))

    thread = threading.Thread(target=promote)
    thread.start()
    start.wait()
    given_up = sum(GiveUpStep(harness.connection).run([pair]).done for pair in pairs)
    thread.join()

    assert given_up + sum(promoted) == 60
    assert len(harness.dead_letters("single")) == given_up
    assert len(harness.waiting_jobs(QUEUE)) == sum(promoted)
    assert harness.audit().balances


def test_a_damaged_counter_stops_it_before_anything_is_written(harness: Harness) -> None:
    (first,) = fail(harness, "m-1")
    harness.connection.hset(keys.COUNTS, "report.dead:single", "many")

    with pytest.raises(Exception, match="holds a value that is not a count"):
        give_up(harness, first)

    assert rows(harness) == [first]
    assert harness.dead_letters("single") == []
