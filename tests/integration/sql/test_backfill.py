"""`callbacks backfill`: a new handler gets past events, each once, and the audit balances."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callbacks import ReplyEvent, ReportEvent, handler, samples
from shared import keys, queues
from shared.events import Event
from tests.acceptance.processes import Running, run, started
from tests.integration.harness import DEDUPE_SECONDS, Harness, declaration_of, open_harness, record, status
from tests.integration.sql.databases import Database, report
from tests.redis_server import RedisServer
from workers.expand import subscriptions
from workers.expand.subscriptions import SubscriptionWriter
from workers.runtime import pause as pauses

HANDLERS = """
from callbacks import ReplyEvent, ReportEvent, handler

@handler(ReportEvent, ReplyEvent, statuses={"UNDELIV", "DELIVRD"})
def fresh(event): ...
"""
called: list[str] = []


@handler(ReportEvent, ReplyEvent, statuses={"UNDELIV", "DELIVRD"})
def fresh(event: Event) -> None:
    """Take what a new handler takes."""
    called.append(event.id)


@pytest.fixture
def harness(redis_server: RedisServer) -> Iterator[Harness]:
    called.clear()
    with open_harness(redis_server.url, fresh) as opened:
        yield opened


@pytest.fixture
def setting(tmp_path: Path, redis_server: RedisServer, database: Database) -> dict[str, str]:
    (tmp_path / "newcomer.py").write_text(HANDLERS)
    return {
        "REDIS_URL": redis_server.url,
        "DATABASE_URL": database.url,
        "CALLBACKS_HANDLERS": "newcomer",
        "CALLBACKS_DEDUPE_SECONDS": str(DEDUPE_SECONDS),
    }


@pytest.fixture
def backfill(tmp_path: Path, setting: dict[str, str]) -> Callable[..., Any]:
    """Return a function that runs the command and returns its JSON."""

    def command(*words: str) -> Any:
        ended = run("backfill", "fresh", "--since", "7d", "--json", *words, cwd=tmp_path, environment=setting)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return command


def known_from_now_on(harness: Harness) -> None:
    """Start an expand worker that offers the handler all events."""
    SubscriptionWriter([declaration_of(fresh).name], connection=harness.connection).tick()


def of_the_past(number: int, **fields: Any) -> list[Event]:
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    return [
        report(message_id=f"m{location}", received_at=began + timedelta(milliseconds=location), **fields)
        for location in range(number)
    ]


def totals(
    enqueued: int = 0, already_enqueued: int = 0, already_fanned_out: int = 0, filtered: int = 0
) -> dict[str, Any]:
    matching = enqueued + already_enqueued + already_fanned_out
    read = {"read": matching + filtered, "filtered": filtered, "matching": matching, "dry_run": False}
    return read | {"enqueued": enqueued, "already_enqueued": already_enqueued, "already_fanned_out": already_fanned_out}


def test_a_new_handler_gets_past_events_that_match_its_filters_and_none_twice(
    harness: Harness, database: Database, backfill: Callable[..., Any]
) -> None:
    known_from_now_on(harness)
    wanted = [*of_the_past(250), samples.reply()]
    database.write(*wanted, *of_the_past(3, status="SEEN"))

    assert backfill("--dry-run") == {"read": 254, "filtered": 3, "matching": 251, "dry_run": True}
    assert harness.counters() == {}
    assert backfill() == totals(enqueued=251, filtered=3)
    (sums,) = harness.audit().handlers
    assert (sums.queued, sums.waiting, sums.missing) == (251, 251, 0)
    assert harness.counters() == {"report.queued:fresh": 250, "reply.queued:fresh": 1}

    assert backfill() == totals(already_enqueued=251, filtered=3)
    harness.deliver(fresh)
    assert backfill() == totals(already_enqueued=251, filtered=3)
    assert called == [event.id for event in wanted]
    (sums,) = harness.audit().handlers
    assert (sums.delivered, sums.waiting, sums.missing) == (251, 0, 0)
    given = harness.leftover_keys()
    assert given
    assert all(key.startswith(keys.backfilled("fresh")) for key in given)
    assert all(0 < harness.connection.ttl(key) <= keys.BACKFILLED_SECONDS for key in given)


def test_only_the_given_kind_and_times_are_enqueued(
    harness: Harness, database: Database, backfill: Callable[..., Any]
) -> None:
    known_from_now_on(harness)
    database.write(*of_the_past(5), samples.reply())

    assert backfill("--kind", "reply") == totals(enqueued=1)
    assert backfill("--until", "30m") == totals(enqueued=5)
    assert backfill("--since", "30m") == totals(already_enqueued=1)


def test_events_that_the_handler_was_offered_when_they_arrived_are_left_out(
    harness: Harness, database: Database, backfill: Callable[..., Any]
) -> None:
    """Also what was received before it was known and waited to be expanded, and what became a dead letter."""
    database.write(*of_the_past(10))
    known_from_now_on(harness)
    waited = status(*(record(f"w{number}") for number in range(5)))
    harness.accept(waited)  # received years ago, by its time
    harness.expand()
    (events,) = harness.waiting_events(fresh)
    usual = [event.id for event in events]
    for event in events:
        received_at = datetime.now(UTC) - timedelta(days=1)
        database.write(report(message_id=event.message_id, id=event.id, received_at=received_at))
    harness.deliver(fresh)
    assert called == usual

    assert backfill() == totals(enqueued=10, already_fanned_out=5)
    harness.deliver(fresh)
    assert Counter(called).most_common(1)[0][1] == 1
    assert len(called) == 15
    assert harness.audit().balances


def test_events_that_it_missed_while_it_was_not_named_are_enqueued_and_no_others(
    harness: Harness, database: Database, backfill: Callable[..., Any]
) -> None:
    now = int(time.time() * 1000)
    hour = 3_600_000
    harness.connection.hset(keys.SUBSCRIPTIONS, "fresh", f"{now - 5 * hour}-{now - 4 * hour},{now - 2 * hour}-")
    ages = (4.5, 3, 1)  # in hours: offered, missed, offered
    database.write(*(report(message_id=str(age), received_at=datetime.now(UTC) - timedelta(hours=age)) for age in ages))

    assert backfill()["enqueued"] == 1
    assert backfill("--anyway")["enqueued"] == 2
    assert backfill("--anyway") == totals(already_enqueued=3)


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        (None, "no expand worker knows 'fresh'"),
        ("?", "are still running"),
    ],
)
def test_it_does_nothing_while_it_cannot_know_what_the_handler_has_had(
    harness: Harness, setting: dict[str, str], tmp_path: Path, recorded: str | None, words: str
) -> None:
    if recorded is not None:
        harness.connection.hset(keys.SUBSCRIPTIONS, "fresh", recorded)
    ended = run("backfill", "fresh", "--since", "7d", cwd=tmp_path, environment=setting)

    assert ended.returncode == 1
    assert words in ended.stderr
    assert harness.counters() == {}


def test_killed_while_it_runs_and_run_again_it_gives_each_event_once(
    harness: Harness, database: Database, setting: dict[str, str], tmp_path: Path, backfill: Callable[..., Any]
) -> None:
    known_from_now_on(harness)
    past = of_the_past(2_600)
    database.write(*past)
    queue = keys.rq_queue(queues.delivery_queue("fresh"))
    with started(tmp_path, setting) as start:
        # It waits while it runs, as it may not give more before what it gave is delivered.
        running: Running = start("backfill", "fresh", "--since", "7d", "--max-waiting", "1000")
        running.until(lambda: harness.connection.llen(queue) == 10, "a first step")
        time.sleep(0.5)
        assert harness.connection.llen(queue) == 10
        running.send(signal.SIGSTOP)  # else it would go on as soon as the first jobs are taken, and that be taken too
        harness.deliver(fresh)
        running.send(signal.SIGCONT)
        running.until(lambda: harness.connection.llen(queue) == 10, "a second step")
        running.process.kill()
        running.wait()
    assert harness.audit().balances
    assert len(called) == 1_000

    assert backfill() == totals(enqueued=600, already_enqueued=2_000)
    assert harness.audit().balances
    harness.deliver(fresh)
    assert called == [event.id for event in past]
    assert harness.audit().handlers[0].delivered == 2_600


def test_it_ends_when_everything_is_enqueued_however_much_waits(
    harness: Harness, database: Database, backfill: Callable[..., Any]
) -> None:
    known_from_now_on(harness)
    database.write(*of_the_past(1_000))

    assert backfill("--max-waiting", "1000") == totals(enqueued=1_000)
    assert sum(map(len, harness.waiting_events(fresh))) == 1_000


def test_it_reports_that_the_handler_is_paused(
    harness: Harness, database: Database, setting: dict[str, str], tmp_path: Path
) -> None:
    known_from_now_on(harness)
    database.write(*of_the_past(1_100))
    words = ("backfill", "fresh", "--since", "7d", "--max-waiting", "1000")
    assert "is paused" not in run(*words, "--dry-run", cwd=tmp_path, environment=setting).stderr

    pauses.pause(harness.connection, "fresh")
    assert "is paused" not in run(*words, "--dry-run", cwd=tmp_path, environment=setting).stderr
    with started(tmp_path, setting) as start:
        running: Running = start(*words)
        running.until(lambda: harness.waiting_events(fresh), "a first step")
        assert (
            "'fresh' is paused: nothing is delivered to it until `callbacks handlers resume fresh`." in running.output
        )
        pauses.resume(harness.connection, "fresh")
        now_ms = int(time.time() * 1000)
        pause = {"by": "handler", "since_ms": now_ms, "until_ms": now_ms + 600_000, "reason": "shut"}
        harness.connection.hset(keys.paused("fresh"), mapping=pause)
        running.until(lambda: "when one event is tried." in running.output, "the second pause")
        assert running.output.count("It says: shut") == 1
        pauses.resume(harness.connection, "fresh")
        harness.deliver(fresh)
        assert running.wait() == 0
        assert running.output.count("'fresh' is ") == 2


def test_an_unavailable_and_an_empty_database_are_reported(
    harness: Harness, setting: dict[str, str], tmp_path: Path
) -> None:
    known_from_now_on(harness)
    ended = run("backfill", "fresh", "--since", "7d", cwd=tmp_path, environment=setting)
    assert ended.returncode == 1
    assert "has no messages yet" in ended.stderr

    ended = run("backfill", "nobody", "--since", "7d", cwd=tmp_path, environment=setting)
    assert ended.returncode == 2
    assert "no handler is called 'nobody'" in ended.stderr


def test_the_enqueued_events_are_the_same_as_the_stored_ones(
    harness: Harness, database: Database, backfill: Callable[..., Any]
) -> None:
    known_from_now_on(harness)
    given = [
        samples.named(client_job_id="autumn")[name] for name in ("delivered", "odd-reply", "long-report", "sticker")
    ]
    database.write(*given)
    backfill()

    got: list[Event] = []

    @handler(ReportEvent, ReplyEvent, name="fresh")
    def taking(event: Event) -> None:
        got.append(event)

    harness.deliver(taking)
    assert sorted(got, key=lambda event: event.id) == sorted(given, key=lambda event: event.id)


def test_workers_that_do_not_know_the_handler_delay_its_subscription(harness: Harness) -> None:
    old: Any = harness.worker(queues.EXPAND)
    old.register_birth()
    begins = SubscriptionWriter(["fresh"], connection=harness.connection)
    begins.tick()
    recorded = subscriptions.find(harness.connection, "fresh")
    assert recorded is not None
    assert (recorded.is_pending, recorded.times) == (True, ())

    old.register_death()
    begins._check_at = 0.0
    begins.tick()
    recorded = subscriptions.find(harness.connection, "fresh")
    assert recorded is not None
    assert not recorded.is_pending
    assert recorded.since_ms is not None

    SubscriptionWriter(["other"], connection=harness.connection).tick()
    recorded = subscriptions.find(harness.connection, "fresh")
    assert recorded is not None
    assert recorded.since_ms is None
    assert len(recorded.times) == 1
    SubscriptionWriter(["other", "fresh"], connection=harness.connection).tick()
    recorded = subscriptions.find(harness.connection, "fresh")
    assert recorded is not None
    assert len(recorded.times) == 2


def test_an_expand_worker_records_since_when_its_handlers_are_offered_events(
    harness: Harness, setting: dict[str, str], tmp_path: Path
) -> None:
    with started(tmp_path, setting) as start:
        expand = start("worker", "expand")
        expand.until(lambda: subscriptions.find(harness.connection, "fresh"), "a note")
        harness.accept(status(record("1")))
        expand.until(lambda: harness.waiting_jobs(queues.delivery_queue("fresh")), "an event")
    recorded = subscriptions.find(harness.connection, "fresh")
    assert recorded is not None
    assert not recorded.is_pending
    assert recorded.since_ms is not None
