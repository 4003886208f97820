"""The events that are read from the database are equal to the events that were written to it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from callbacks import Event, samples
from shared import callback_events, wire
from tests.integration.sql.databases import BEGAN, Database, reply, report
from workers.handlers.sql import history, stored_events

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


def stored(
    database: Database, *kinds: str, since: datetime = LONG_AGO, until: datetime = FAR_AHEAD, number: int | None = None
) -> list[Event]:
    chosen = kinds or ("report", "reply")
    found = list(stored_events.read_events(database.address, kinds=chosen, since=since, until=until))
    assert stored_events.count_events(database.address, kinds=chosen, since=since, until=until) == len(found)
    return found


def by_id(given: list[Event]) -> dict[str, dict[str, Any]]:
    return {event.id: {"kind": event.kind, **msgspec.structs.asdict(event)} for event in given}


def of_callback(body: dict[str, Any]) -> list[Event]:
    callback = wire.read(json.dumps(body).encode(), None)
    return list(callback_events.from_callback(callback, source="main", received_at=BEGAN))


def test_every_kind_of_event_comes_back_field_by_field(database: Database) -> None:
    given = [
        *samples.named(client_job_id="autumn 👋🏽").values(),
        *samples.named(client_job_id=None, api_job_id="job\u2028" + "j" * 390).values(),
    ]
    database.write(*given)

    assert by_id(stored(database)) == by_id(given)


def test_keys_next_to_data_are_not_mistaken_for_keys_of_the_record(database: Database) -> None:
    envelope = {"api_job_id": "a", "type": "SMS", "from": "Somebody", "timestamp": 1443165174, "price": 2**70}
    records = [{"message_id": "1", "status": "SEEN"}, {"message_id": "2", "status": "SEEN", "from": "Shop"}]
    given = of_callback({**envelope, "error_code": 7, "client_message_id": "c", "data": records})
    assert [event.sender for event in given] == [None, "Shop"]
    database.write(*given)

    assert by_id(stored(database)) == by_id(given)


def test_a_record_that_cannot_be_parsed_any_more_is_restored_from_its_columns(database: Database) -> None:
    # A key next to `data` may have any value, also one that is not a time.
    given = of_callback({"timestamp": "soon", "data": [{"message_id": "1", "status": "SEEN", "to": "35679000123"}]})
    database.write(*given)

    assert by_id(stored(database)) == by_id(given)


def test_only_ids_of_jobs_that_do_not_fit_into_a_column_are_changed(database: Database) -> None:
    long, odd = samples.report(client_job_id="j" * 401), samples.report(client_job_id="a\0b")
    database.write(long, odd)

    found = {event.id: event.client_job_id for event in stored(database)}
    assert found[odd.id] == "a␀b"
    assert found[long.id] != long.client_job_id
    assert len(found[long.id] or "") == 400


def test_events_come_in_the_order_in_which_they_were_received_page_by_page(database: Database) -> None:
    """More than three pages, and many events of the same millisecond, also at the end of a page."""
    given: list[Event] = []
    for number in range(1_300):
        received_at = BEGAN + timedelta(milliseconds=number // 450)
        given.append(report(message_id=f"m{number}", received_at=received_at))
        if number % 100 == 0:
            given.append(reply(reply_message_id=f"r{number}", received_at=received_at))
    database.write(*reversed(given))

    found = stored(database)
    assert [event.received_at for event in found] == [event.received_at for event in given]
    assert {event.id for event in found} == {event.id for event in given}
    assert len(found) == len(given)


def test_only_the_given_kinds_and_times_are_read(database: Database) -> None:
    def at(seconds: int) -> datetime:
        return BEGAN + timedelta(seconds=seconds)

    database.write(
        *(report(message_id=str(second), received_at=at(second)) for second in range(4)),
        reply(received_at=at(2)),
    )

    assert [event.received_at for event in stored(database, "report", since=at(1), until=at(3))] == [at(1), at(2)]
    assert [event.kind for event in stored(database, since=at(2), until=at(3))] in (
        ["report", "reply"],
        ["reply", "report"],
    )
    assert [event.kind for event in stored(database, "reply")] == ["reply"]


def test_the_newest_events_are_read_a_page_at_a_time(database: Database) -> None:
    # Three of one moment, and a reply between.
    given = [report(seconds=0, message_id=f"m-{number}") for number in range(3)]
    given += [report(seconds=700, message_id="m-0", status="SEEN"), report(seconds=900, message_id="m-\0")]
    database.write(*given, reply(orig_message_id="m-0"))

    def newest(limit: int, **more: Any) -> list[Event]:
        with history.open_connection(database.address) as connection:
            more.setdefault("kinds", ("report", "reply"))
            return stored_events.read_newest(connection, limit=limit, **more)

    listed = newest(10)
    assert [(event.received_at, event.id) for event in listed] == sorted(
        ((event.received_at, event.id) for event in listed), reverse=True
    )
    assert len(listed) == 6
    pages: list[Event] = []
    after = None
    while page := newest(2, after=after):
        pages += page
        after = (page[-1].received_at, page[-1].id)
    assert pages == listed
    assert newest(10, kinds=("reply",)) == [event for event in listed if event.kind == "reply"]
    assert [event.kind for event in newest(10, message_id="m-0")] == ["report", "reply", "report"]
    assert len(newest(10, message_id="m-\0")) == 1
    assert newest(10, since=BEGAN + timedelta(seconds=701)) == listed[:2]
