"""The examples do what they say: called as a worker calls them, with real files and a real server."""

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from callbacks import Event, ReportEvent, history, samples
from callbacks.testing import Conformance, Result, Worker
from examples import consent, everyday
from workers import registry
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.event_store import EventStore
from workers.handlers.sql.writer import write_events

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Receiver(ThreadingHTTPServer):
    """Answers every post with `status`, and keeps what was posted by its Idempotency-Key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.status = 200
        self.posts: list[tuple[str, Any]] = []


class Request(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((self.headers["Idempotency-Key"], body))
        self.send_response(self.server.status)
        if self.server.status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # their name
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERYDAY_FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for variable in ("EVERYDAY_ANSWER_URL", "EVERYDAY_ALERT_URL"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    if not (folder / "everyday.db").exists():
        return []
    with closing(sqlite3.connect(folder / "everyday.db")) as database:
        return database.execute(query).fetchall()


def deliver(handler: Callable[..., Any], *events: Event) -> list[Result]:
    with Worker(handler) as worker:
        return worker.deliver_all(events)


def outcomes(handler: Callable[..., Any], *events: Event) -> list[str]:
    return [result.outcome for result in deliver(handler, *events)]


def ends(status: str, number: int, at: datetime) -> list[ReportEvent]:
    return [samples.report(status, received_at=at, occurred_at=at) for _ in range(number)]


def test_three_handlers_are_found() -> None:
    assert [handler.name for handler in registry.load(["examples.everyday"])] == ["refund", "answer", "alert"]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventStore]:
    """Return the tables of the handler `sql`, which `refund` reads."""
    url = f"sqlite:///{tmp_path}/callbacks.db"
    monkeypatch.setenv("DATABASE_URL", url)
    store = EventStore(DatabaseUrl.parse(url), write_events)
    yield store
    store.close()


def old(status: str, **fields: Any) -> ReportEvent:
    """Return a report that is old enough to be refunded."""
    at = datetime.now(UTC) - timedelta(seconds=everyday.REFUND_AFTER_SECONDS + 1)
    return samples.report(status, received_at=at, occurred_at=at, **fields)


def test_a_message_that_arrived_on_no_channel_is_refunded_once(folder: Path, stored: EventStore) -> None:
    given = [
        old("UNDELIV", message_id="1", client_message_id="order-1"),
        old("DELIVRD", message_id="2"),
        old("EXPIRED", message_id="1", client_message_id="order-1"),
        old("REJECTD", message_id="3", client_message_id=None),
    ]
    stored.write(given)

    assert outcomes(everyday.refund, *given, given[0]) == ["done", "filtered", "done", "done", "done"]
    assert rows(folder, "SELECT message_id, order_no, event_id FROM credits ORDER BY 1") == [
        ("1", "order-1", given[0].id),
        ("3", None, given[3].id),
    ]


@pytest.mark.parametrize("arrival", ["DELIVRD", "SEEN"])
def test_a_message_that_another_channel_delivered_is_not_refunded(
    folder: Path, stored: EventStore, arrival: str
) -> None:
    fields = {"message_id": "1", "recipient": "35600000001", "api_job_id": "job-1"}
    failed = old("UNDELIV", channel="VIBER", **fields)
    stored.write([failed, old(arrival, channel="SMS", **{**fields, "recipient": "+356 00000001"})])

    assert outcomes(everyday.refund, failed) == ["done"]
    assert rows(folder, "SELECT * FROM credits") == []


def test_a_failure_is_refunded_only_when_it_is_some_minutes_old(
    folder: Path, stored: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = samples.report("UNDELIV")
    stored.write([failed])
    (result,) = deliver(everyday.refund, failed)
    assert result.outcome == "retry"
    assert result.after_seconds is not None
    assert 0 < result.after_seconds <= everyday.REFUND_AFTER_SECONDS

    monkeypatch.setenv("EVERYDAY_REFUND_AFTER_SECONDS", "0")
    assert outcomes(everyday.refund, failed) == ["done"]
    assert len(rows(folder, "SELECT * FROM credits")) == 1


def test_nothing_is_refunded_while_the_history_does_not_know_the_failure(folder: Path, stored: EventStore) -> None:
    failed = old("UNDELIV")
    stored.write([samples.report("ACCEPTD")])

    (result,) = deliver(everyday.refund, failed)

    assert (result.outcome, "has not stored the event" in result.reason) == ("failed", True)
    assert rows(folder, "SELECT * FROM credits") == []


def test_a_reply_is_answered(receiver: Receiver) -> None:
    event = samples.reply("Hello", sender="35600000001")

    given = (event, samples.reply(None), samples.reply("Hi", sender=None), samples.report())
    assert outcomes(everyday.answer, *given) == ["done", "done", "done", "filtered"]
    assert receiver.posts == [(event.id, {"to": "35600000001", "text": everyday.THANKS})]


def test_nobody_is_answered_twice_within_an_hour(receiver: Receiver) -> None:
    first, within, beyond = (
        samples.reply("Hello", sender=sender, received_at=NOON + timedelta(minutes=minutes))
        for minutes, sender in ((0, "35600000001"), (59, "+356 00000001"), (60, "35600000001"))
    )
    for event in (first, within, beyond):
        deliver(everyday.answer, event)

    assert [key for key, _ in receiver.posts] == [first.id, beyond.id]


@pytest.mark.parametrize(
    ("status", "outcome", "after_seconds"), [(429, "retry", 7), (503, "retry", 60), (500, "retry", None)]
)
def test_an_answer_that_cannot_be_sent_now_is_sent_later(
    receiver: Receiver, status: int, outcome: str, after_seconds: float | None
) -> None:
    receiver.status, event = status, samples.reply("Hello")
    (result,) = deliver(everyday.answer, event)
    assert (result.outcome, result.after_seconds) == (outcome, after_seconds)
    assert str(status) in result.reason

    receiver.status = 200
    assert [outcomes(everyday.answer, event) for _ in range(2)] == [["done"], ["done"]]
    assert [key for key, _ in receiver.posts] == [event.id, event.id]


def test_an_answer_that_the_other_side_refuses_is_given_up(receiver: Receiver) -> None:
    receiver.status = 403
    (result,) = deliver(everyday.answer, samples.reply("Hello"))
    assert (result.outcome, result.reason) == ("rejected", "EVERYDAY_ANSWER_URL: answered 403")


def test_a_rise_of_failures_is_alerted_once_an_hour(receiver: Receiver) -> None:
    deliver(everyday.alert, *ends("DELIVRD", 30, NOON), *ends("UNDELIV", 19, NOON))
    assert receiver.posts == []
    for minutes in (1, 2, 3, 59):
        deliver(everyday.alert, *ends("EXPIRED", 20, NOON + timedelta(minutes=minutes)))
    assert [body for _, body in receiver.posts] == [{"text": "39 of 69 messages failed in 10 minutes"}]

    deliver(everyday.alert, *ends("REJECTD", 20, NOON + timedelta(minutes=61)))
    assert [body for _, body in receiver.posts[1:]] == [{"text": "40 of 40 messages failed in 10 minutes"}]


def test_many_failures_among_very_many_messages_are_no_rise(receiver: Receiver) -> None:
    deliver(everyday.alert, *ends("DELIVRD", 81, NOON), *ends("UNDELIV", 20, NOON))
    assert receiver.posts == []


def test_an_alert_that_could_not_be_sent_is_sent_with_the_next_attempt(receiver: Receiver) -> None:
    given = ends("UNDELIV", 20, NOON)
    receiver.status = 503
    assert set(outcomes(everyday.alert, *given)) == {"retry"}

    receiver.status = 200
    assert set(outcomes(everyday.alert, *given)) == {"done"}
    assert {key for key, _ in receiver.posts} == {given[0].id}
    assert len(receiver.posts) == 2


class TestRefund(Conformance):
    handler = everyday.refund

    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVERYDAY_REFUND_AFTER_SECONDS", "0")
        # The events of the checks are in no tables: nothing has arrived.
        monkeypatch.setattr(history, "arrival_of", lambda _: None)
        self.folder = folder

    def effects(self) -> Collection[object]:
        return rows(self.folder, "SELECT * FROM credits")


class TestAnswer(Conformance):
    handler = everyday.answer

    @pytest.fixture(autouse=True)
    def _receiver(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def effects(self) -> Collection[object]:
        # The other side knows repetitions by their Idempotency-Key.
        return {key for key, _ in self.receiver.posts}


class TestAlert(Conformance):
    handler = everyday.alert

    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path, receiver: Receiver) -> None:
        self.folder = folder

    def effects(self) -> Collection[object]:
        return rows(self.folder, "SELECT * FROM ends")


def test_a_customer_who_says_stop_is_not_written_to_until_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "customers.db"
    monkeypatch.setenv("CONSENT_FILE", str(file))
    stop, start = (
        samples.reply(text, sender="+356 79000123", occurred_at=NOON + timedelta(minutes=minute))
        for text, minute in (("Stop", 1), ("START", 2))
    )
    other = samples.reply("STOP", sender="447700900123")

    assert outcomes(consent.consent, samples.reply("Yes")) == ["filtered"]
    with closing(sqlite3.connect(file)) as database:
        database.execute(consent._TABLE)
        database.execute("INSERT INTO customers (number_digits) VALUES ('35679000123')")
        database.commit()
        query = "SELECT number_digits, may_be_written_to FROM customers"
        for events, expected in (([stop, other], 0), ([start, stop], 1), ([stop, start, stop], 1)):
            assert set(outcomes(consent.consent, *events)) == {"done"}
            assert database.execute(query).fetchall() == [("35679000123", expected)]


def test_a_reply_that_says_stop_is_not_answered(receiver: Receiver) -> None:
    assert outcomes(everyday.answer, samples.reply("STOP")) == ["filtered"]
    assert receiver.posts == []
