"""Samples are events as the gateway's callbacks make them, each its own."""

import time
from datetime import UTC, datetime

import pytest

from callbacks import ReplyEvent, ReportEvent, samples
from shared import callback_events, events, schema, wire


def test_there_is_a_sample_of_every_status_and_of_one_that_nobody_knows() -> None:
    statuses = {event.status for event in samples.named().values() if isinstance(event, ReportEvent)}

    assert statuses > schema.STATUSES


def test_names_are_those_of_the_samples_and_each_kind_is_there() -> None:
    found = samples.named()

    assert tuple(found) == samples.NAMES
    assert {event.kind for event in found.values()} == {"report", "reply"}


def test_no_sample_has_the_id_of_another() -> None:
    made = [event for _ in range(3) for event in samples.named().values()]
    made += [samples.report(message_id="1") for _ in range(3)]

    assert len({event.id for event in made}) == len(made)


def test_a_sample_is_of_now_however_long_the_process_has_been_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ns = time.time_ns() + 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: ns)
    monkeypatch.setattr(samples, "_made_ms", [0])  # the next test's are of its own time

    made = [samples.report(message_id="1") for _ in range(3)]

    ages_seconds = [ns / 10**9 - event.received_at.timestamp() for event in made]
    assert all(0 < age_seconds < 120 for age_seconds in ages_seconds)
    assert len({event.id for event in made}) == 3


def test_a_sample_is_what_the_reading_of_its_raw_record_gives() -> None:
    for event in samples.named().values():
        body = events._encode({"data": [event.raw]} if isinstance(event, ReportEvent) else event.raw)
        (again,) = callback_events.from_callback(
            wire.read(body, None), source=event.source, received_at=event.received_at
        )
        assert again.id == event.id
        assert (again.sender, again.recipient, again.occurred_at) == (event.sender, event.recipient, event.occurred_at)


def test_a_bare_sample_lacks_all_that_may_be_missing() -> None:
    for name, known in (("bare-report", {"message_id", "status", "is_final"}), ("bare-reply", {"reply_message_id"})):
        event = samples.one(name)
        given = {field for field in event.__struct_fields__ if getattr(event, field) is not None}
        assert given == known | {"id", "source", "received_at", "raw"}


def test_two_factor_is_read_as_its_page_has_it() -> None:
    event = samples.one("two-factor")

    assert isinstance(event, ReportEvent)
    assert (event.sender, event.error_code) == ("Fortytwo", 943)
    assert event.occurred_at is not None
    assert abs((event.occurred_at - event.received_at).total_seconds()) < 60


def test_fields_are_given_by_the_events_own_names() -> None:
    at = datetime(2026, 11, 23, 12, 0, 0, 145000, tzinfo=UTC)
    event = samples.report("UNDELIV", "SMS", message_id="7", sender="Shop", recipient="1", occurred_at=at, source="gw")

    assert (event.message_id, event.status, event.channel) == ("7", "UNDELIV", "SMS")
    assert (event.sender, event.recipient, event.occurred_at, event.source) == ("Shop", "1", at, "gw")
    assert event.id == events.report_id("gw", "7", "SMS", "UNDELIV", "1", 1_795_435_200_145, 0)
    assert samples.reply(orig_message_id="7", sender=None).orig_message_id == "7"


def test_a_record_may_say_more_or_other_things() -> None:
    event = samples.report(raw={"price": 3, "from": "", "viber_from": "Shop"})

    assert (event.raw["price"], event.sender) == (3, "Shop")


def test_all_samples_can_be_given_the_same_field() -> None:
    found = samples.named(source="shop", status="UNDELIV", text="Hello").values()

    assert {event.source for event in found} == {"shop"}
    assert {event.status for event in found if isinstance(event, ReportEvent)} == {"UNDELIV"}
    assert {event.text for event in found if isinstance(event, ReplyEvent)} == {"Hello"}


def test_an_unknown_field_is_named() -> None:
    for make in (samples.report, samples.reply, samples.named):
        with pytest.raises(TypeError, match=r"unknown fields: recipent; known are .*recipient"):
            make(recipent="1")


def test_a_value_that_no_callback_could_bring_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"\$\.data\[0\]\.message_id"):
        samples.report(message_id=None)
