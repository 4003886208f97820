"""`callbacks.history`: handlers look up what happened to a message, on whatever channel it was sent."""

import asyncio
from typing import Any

import pytest

from callbacks import Event, ReportEvent, Retry, handler, history
from callbacks.testing import Worker
from tests.integration.sql.databases import Database, reply, report

FAILED = report("UNDELIV", seconds=60, channel="VIBER", error_code=0)


@pytest.fixture(autouse=True)
def _url(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)


def said(found: list[ReportEvent]) -> list[tuple[str, str | None]]:
    return [(event.status, event.channel) for event in found]


def test_the_reports_of_a_message_are_those_of_every_channel_in_order(database: Database) -> None:
    arrived = report("DELIVRD", seconds=70, channel="SMS", recipient="+35679000123")
    database.write(
        arrived,
        FAILED,
        report("ACCEPTD", channel="INTERNAL"),
        report("SEEN", message_id="m-2", client_message_id="c-2"),
    )

    assert said(history.reports_of(FAILED)) == [("ACCEPTD", "INTERNAL"), ("UNDELIV", "VIBER"), ("DELIVRD", "SMS")]
    assert history.arrival_of(FAILED) == arrived


def test_without_an_arrival_on_any_channel_there_is_none(database: Database) -> None:
    database.write(FAILED, report("EXPIRED", seconds=90, channel="SMS"), report("TELEPATHD", channel="DREAM"))

    assert history.arrival_of(FAILED) is None


@pytest.mark.parametrize(
    ("status", "fields", "is_same"),
    [
        ("SEEN", {"seconds": 600}, True),
        ("DELIVRD", {"seconds": 60}, True),
        ("DELIVRD", {"seconds": 0}, True),
        ("DELIVRD", {"seconds": None}, True),
        ("DELIVRD", {"recipient": None}, True),
        ("DELIVRD", {"recipient": "0035679000123"}, True),
        ("DELIVRD", {"recipient": "35679000124"}, False),  # one id for several recipients
        ("DELIVRD", {"message_id": "sms-1"}, True),  # the channel of the fall-back has an id of its own
        ("DELIVRD", {"message_id": "sms-1", "recipient": "+356 79000123"}, True),
        ("DELIVRD", {"message_id": "sms-1", "client_message_id": None}, True),
        ("DELIVRD", {"message_id": "sms-1", "api_job_id": None}, True),
        ("DELIVRD", {"message_id": "sms-1", "client_message_id": "c-2"}, False),
        ("DELIVRD", {"message_id": "sms-1", "api_job_id": "job-2"}, False),
        ("DELIVRD", {"message_id": "sms-1", "recipient": "35679000124"}, False),
        ("DELIVRD", {"message_id": "sms-1", "recipient": None}, False),
        ("DELIVRD", {"message_id": "sms-1", "api_job_id": None, "client_message_id": None}, False),
    ],
)
def test_an_arrival_is_that_of_the_same_message(
    database: Database, status: str, fields: dict[str, Any], is_same: bool
) -> None:
    database.write(FAILED, report(status, **{"seconds": 70, "channel": "SMS", **fields}))

    arrival = history.arrival_of(FAILED)
    assert (arrival is not None and arrival.status == status) is is_same


@pytest.mark.parametrize(
    ("failed", "is_same"),
    [
        ({"client_message_id": None}, True),
        ({"api_job_id": None}, True),
        ({"api_job_id": None, "client_message_id": None}, False),
        ({"recipient": None}, False),
    ],
)
def test_a_failure_without_a_name_is_matched_by_the_others(
    database: Database, failed: dict[str, Any], is_same: bool
) -> None:
    event = report("UNDELIV", seconds=60, channel="VIBER", **failed)
    database.write(event, report(message_id="sms-1", seconds=70))

    assert (history.arrival_of(event) is not None) is is_same


def test_the_reports_of_a_reply_are_those_of_the_message_that_it_answers(database: Database) -> None:
    database.write(report(recipient="+356 79000123"), report("SEEN", message_id="m-2", recipient="35600000002"))

    assert said(history.reports_of(reply())) == [("DELIVRD", "SMS")]
    assert said(history.reports_of(reply(orig_message_id=None))) == [("DELIVRD", "SMS")]
    assert said(history.reports_of(reply(orig_message_id=None, sender="0035600000002"))) == [("SEEN", "SMS")]
    assert history.reports_of(reply(orig_message_id=None, sender=None)) == []


@pytest.mark.parametrize(
    "names",
    [
        {"message_id": "14466445287300014003"},
        {"client_message_id": "c-1"},
        {"api_job_id": "job-1", "recipient": "+356 79 000-123"},
        {"recipient": "0035679000123"},
    ],
    ids=",".join,
)
def test_reports_are_found_by_each_name(database: Database, names: dict[str, str]) -> None:
    other: dict[str, Any] = {"message_id": "m-2", "client_message_id": "c-2", "recipient": "35600000002"}
    database.write(FAILED, report("SEEN", **other))

    assert history.reports(**names) == [FAILED]
    assert len(history.reports(api_job_id="job-1")) == 2
    assert history.reports(**{**names, "client_message_id": "c-3"}) == []


def test_reports_without_a_name_are_a_programming_error() -> None:
    with pytest.raises(TypeError, match="needs a message_id, client_message_id, api_job_id or recipient"):
        history.reports()


def test_while_sql_has_not_stored_the_event_the_answer_is_not_known(database: Database) -> None:
    database.write(report("ACCEPTD"))

    with pytest.raises(history.HistoryUnavailable, match=f"has not stored the event {FAILED.id} yet"):
        history.arrival_of(FAILED)


def test_a_database_that_has_no_tables_or_is_unavailable_is_said_without_its_password(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(history.HistoryUnavailable, match="has no messages yet: add `sql` to CALLBACKS_HANDLERS"):
        history.reports_of(FAILED)

    monkeypatch.setenv("DATABASE_URL", "postgresql://u:s3cret-pw@127.0.0.1:1/x")
    with pytest.raises(history.HistoryUnavailable, match="cannot be used") as caught:
        history.reports_of(FAILED)
    assert "s3cret" not in str(caught.value)


def test_handlers_of_both_kinds_ask_it(database: Database) -> None:
    @handler(ReportEvent)
    def plain(event: Event) -> None:
        assert isinstance(event, ReportEvent)
        if history.arrival_of(event) is None:
            raise Retry(after_seconds=60)

    @handler(ReportEvent, concurrency=4)
    async def on_a_loop(event: Event) -> None:
        assert isinstance(event, ReportEvent)
        if await asyncio.to_thread(history.arrival_of, event) is None:
            raise Retry(after_seconds=60)

    database.write(FAILED)
    outcomes = []
    for arrived in ((), (report(),)):
        database.write(*arrived)
        for function in (plain, on_a_loop):
            with Worker(function) as worker:
                outcomes += [result.outcome for result in worker.deliver_all([FAILED, FAILED])]

    assert outcomes == ["retry"] * 4 + ["done"] * 4
