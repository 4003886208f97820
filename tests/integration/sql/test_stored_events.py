"""The events that are read from the database are the very events that were written to it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from callbacks import Event, samples
from shared import events, wire
from tests.integration.sql.databases import BEGAN, Database, reply, report
from workers.handlers.sql import stored_events

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


def kept(
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
    return list(events.from_callback(callback, source="main", received_at=BEGAN))


def test_every_kind_of_event_comes_back_field_by_field(database: Database) -> None:
    given = [
        *samples.named(client_job_id="autumn 👋🏽").values(),
        *samples.named(client_job_id=None, api_job_id="job\u2028" + "j" * 390).values(),
    ]
    database.write(*given)

    assert by_id(kept(database)) == by_id(given)


def test_what_stood_beside_data_is_not_taken_for_the_records_own(database: Database) -> None:
    beside = {"api_job_id": "a", "type": "SMS", "from": "Somebody", "timestamp": 1443165174, "price": 2**70}
    records = [{"message_id": "1", "status": "SEEN"}, {"message_id": "2", "status": "SEEN", "from": "Shop"}]
    given = of_callback({**beside, "error_code": 7, "client_message_id": "c", "data": records})
    assert [event.sender for event in given] == [None, "Shop"]
    database.write(*given)

    assert by_id(kept(database)) == by_id(given)


def test_a_record_that_no_release_can_read_any_more_gives_what_its_columns_say(database: Database) -> None:
    # Beside `data` anything may stand, also what would be no time in a record.
    given = of_callback({"timestamp": "soon", "data": [{"message_id": "1", "status": "SEEN", "to": "35679000123"}]})
    database.write(*given)

    assert by_id(kept(database)) == by_id(given)


def test_of_the_ids_of_jobs_alone_what_a_column_cannot_hold_is_lost(database: Database) -> None:
    long, odd = samples.report(client_job_id="j" * 401), samples.report(client_job_id="a\0b")
    database.write(long, odd)

    found = {event.id: event.client_job_id for event in kept(database)}
    assert found[odd.id] == "a␀b"
    assert found[long.id] != long.client_job_id
    assert len(found[long.id] or "") == 400


def test_they_come_in_the_order_in_which_they_were_received_page_after_page(database: Database) -> None:
    """Three pages and more, and many events of the same millisecond, also where a page ends."""
    given: list[Event] = []
    for number in range(1_300):
        received_at = BEGAN + timedelta(milliseconds=number // 450)
        given.append(report(message_id=f"m{number}", received_at=received_at))
        if number % 100 == 0:
            given.append(reply(reply_message_id=f"r{number}", received_at=received_at))
    database.write(*reversed(given))

    found = kept(database)
    assert [event.received_at for event in found] == [event.received_at for event in given]
    assert {event.id for event in found} == {event.id for event in given}
    assert len(found) == len(given)


def test_only_the_kinds_and_times_asked_for_are_given(database: Database) -> None:
    def at(seconds: int) -> datetime:
        return BEGAN + timedelta(seconds=seconds)

    database.write(
        *(report(message_id=str(second), received_at=at(second)) for second in range(4)),
        reply(received_at=at(2)),
    )

    assert [event.received_at for event in kept(database, "report", since=at(1), until=at(3))] == [at(1), at(2)]
    assert [event.kind for event in kept(database, since=at(2), until=at(3))] in (
        ["report", "reply"],
        ["reply", "report"],
    )
    assert [event.kind for event in kept(database, "reply")] == ["reply"]
