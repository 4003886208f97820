"""Events: what they carry, what they are known by, and the one JSON form in which they leave."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events, wire
from shared.events import Event, ReplyEvent, ReportEvent

RECEIVED = datetime(2015, 9, 25, 7, 12, 55, 987654, tzinfo=UTC)
REPORT: dict[str, Any] = {
    "type": "SMS",
    "message_id": "14466445287300014003",
    "status": "DELIVRD",
    "timestamp": 1443165174,
    "micro_timestamp": 1443165174145,
    "to": "35679000123",
    "from": "Fortytwo",
    "client_message_id": "c-1",
    "error_code": 943,
}
STATUS: dict[str, Any] = {"api_job_id": "8de46f30-6b0f", "client_job_id": "autumn", "data": [REPORT]}
REPLY: dict[str, Any] = {
    "api_job_id": "8de46f30-6b0f",
    "client_job_id": "",
    "reply_message_id": "14466445287300014999",
    "orig_message_id": "14466445287300014003",
    "req_uuid": "0b8ae9b2-2f0f",
    "channel": "VIBER",
    "timestamp": 1443165174,
    "micro_timestamp": 1443165174145,
    "from": "35679000123",
    "to": "Fortytwo",
    "message": {"text": "Grüße 👋🏽"},
}


def read(body: dict[str, Any] | bytes) -> list[Event]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return list(events.of(wire.read(raw, None), source="main", received_at=RECEIVED))


def report(**keys: Any) -> ReportEvent:
    (event,) = read({**STATUS, "data": [{**REPORT, **keys}]})
    assert isinstance(event, ReportEvent)
    return event


def reply(**keys: Any) -> ReplyEvent:
    (event,) = read({**REPLY, **keys})
    assert isinstance(event, ReplyEvent)
    return event


def test_a_report_carries_what_the_gateway_said() -> None:
    event = report()
    assert event == ReportEvent(
        id=event.id,
        source="main",
        api_job_id="8de46f30-6b0f",
        client_job_id="autumn",
        message_id="14466445287300014003",
        client_message_id="c-1",
        channel="SMS",
        status="DELIVRD",
        is_final=True,
        occurred_at=datetime(2015, 9, 25, 7, 12, 54, 145000, tzinfo=UTC),
        sender="Fortytwo",
        recipient="35679000123",
        error_code=943,
        received_at=RECEIVED,
        raw=REPORT,
    )


def test_a_reply_carries_what_the_gateway_said() -> None:
    event = reply()
    assert event == ReplyEvent(
        id=event.id,
        source="main",
        api_job_id="8de46f30-6b0f",
        client_job_id=None,
        reply_message_id="14466445287300014999",
        orig_message_id="14466445287300014003",
        req_uuid="0b8ae9b2-2f0f",
        channel="VIBER",
        occurred_at=datetime(2015, 9, 25, 7, 12, 54, 145000, tzinfo=UTC),
        sender="35679000123",
        recipient="Fortytwo",
        text="Grüße 👋🏽",
        received_at=RECEIVED,
        raw=REPLY,
    )


@pytest.mark.parametrize("message", [{}, None, {"text": None}, {"text": ""}])
def test_a_reply_without_text_has_none(message: dict[str, Any] | None) -> None:
    assert reply(message=message).text is None


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        report().status = "SEEN"  # type: ignore[misc] # what a handler may try


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        ("ACCEPTD", False),
        ("UNKNOWN", False),
        ("DELIVRD", True),
        ("SEEN", True),
        ("EXPIRED", True),
        ("DELETED", True),
        ("UNDELIV", True),
        ("REJECTD", True),
        ("READ", False),
    ],
)
def test_a_status_is_final_as_the_specification_says_and_an_unknown_one_is_not(status: str, is_final: bool) -> None:
    assert (report(status=status).status, report(status=status).is_final) == (status, is_final)


@pytest.mark.parametrize("absent", [None, ""])
@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("type", "channel"),
        ("to", "recipient"),
        ("from", "sender"),
        ("client_message_id", "client_message_id"),
        ("error_code", "error_code"),
    ],
)
def test_absent_null_and_empty_are_none(key: str, field: str, absent: str | None) -> None:
    assert getattr(report(**{key: absent}), field) is None


def test_what_stands_beside_data_is_part_of_raw_and_the_records_own_keys_win() -> None:
    (event,) = read({**STATUS, "account": 7, "type": "outer"})
    assert event.raw == {"account": 7, **REPORT}


def test_a_bad_record_leaves_its_siblings() -> None:
    first, second = read({"data": [{**REPORT, "message_id": "1"}, {"status": "SEEN"}, {**REPORT, "message_id": "3"}]})
    assert isinstance(first, ReportEvent)
    assert isinstance(second, ReportEvent)
    assert (first.message_id, second.message_id) == ("1", "3")


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**64), 10**40])
def test_integers_beyond_64_bits_survive_in_raw(number: int) -> None:
    event = report(cost=number)
    (decoded,) = events.decode(b"[" + events.encode(event) + b"]")
    assert decoded == event
    assert decoded.raw["cost"] == number
    assert json.loads(event.to_json())["raw"]["cost"] == number


# --- the one JSON form


def test_a_reports_json_has_these_keys_in_this_order() -> None:
    line = report(client_message_id=None).to_json()
    assert line == (
        '{"kind":"report","id":"' + report().id + '","source":"main","api_job_id":"8de46f30-6b0f",'
        '"client_job_id":"autumn","message_id":"14466445287300014003","client_message_id":null,"channel":"SMS",'
        '"status":"DELIVRD","is_final":true,"occurred_at":"2015-09-25T07:12:54.145Z","sender":"Fortytwo",'
        '"recipient":"35679000123","error_code":943,"received_at":"2015-09-25T07:12:55.987Z",'
        '"raw":{"type":"SMS","message_id":"14466445287300014003","status":"DELIVRD","timestamp":1443165174,'
        '"micro_timestamp":1443165174145,"to":"35679000123","from":"Fortytwo","client_message_id":null,'
        '"error_code":943}}'
    )


def test_a_replys_json_has_these_keys_in_this_order() -> None:
    line = json.loads(reply().to_json())
    assert list(line) == [
        "kind", "id", "source", "api_job_id", "client_job_id", "reply_message_id", "orig_message_id", "req_uuid",
        "channel", "occurred_at", "sender", "recipient", "text", "received_at", "raw",
    ]  # fmt: skip
    assert line["kind"] == "reply"
    assert line["text"] == "Grüße 👋🏽"
    assert line["raw"] == REPLY


def test_a_time_that_was_not_given_is_null() -> None:
    assert json.loads(report(timestamp=None, micro_timestamp=None).to_json())["occurred_at"] is None


@pytest.mark.parametrize("character", ["\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_the_json_is_one_line_whatever_the_text(character: str) -> None:
    event = reply(message={"text": f"one{character}two"}, note={character: [character]})
    line = event.to_json()
    assert line.splitlines() == [line]
    assert json.loads(line)["text"] == f"one{character}two"
    assert json.loads(line)["raw"] == event.raw


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_the_json(text: str) -> None:
    line = reply(message={"text": text}).to_json()
    assert line.splitlines() == [line]
    assert json.loads(line)["text"] == (text or None)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_written_in_utc_to_the_millisecond(time: datetime) -> None:
    written = events.rfc3339(time)
    assert len(written) == len("2015-09-25T07:12:54.145Z")
    assert written.endswith("Z")
    assert timedelta(0) <= time - datetime.fromisoformat(written) < timedelta(milliseconds=1)


@given(st.integers(-62135596800000, 10**14 - 1))
def test_every_time_on_the_wire_is_exact_to_the_millisecond(unix_ms: int) -> None:
    assert (events.time_of(unix_ms) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == unix_ms


# --- identity

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
said = st.tuples(ids, st.none() | ids, ids, st.none() | st.integers(), st.none() | st.integers())


@given(said, said)
def test_reports_are_the_same_event_exactly_if_the_five_are_the_same(
    one: tuple[str, str | None, str, int | None, int | None], two: tuple[str, str | None, str, int | None, int | None]
) -> None:
    assert (events.report_id(*one) == events.report_id(*two)) == (one == two)


@pytest.mark.parametrize(
    "changed",
    [
        {"message_id": "14466445287300014004"},
        {"type": "VIBER"},
        {"type": None},
        {"status": "SEEN"},
        {"micro_timestamp": 1443165174146},
        {"error_code": 0},
        {"error_code": None},
    ],
)
def test_a_report_that_says_something_else_is_another_event(changed: dict[str, Any]) -> None:
    assert report(**changed).id != report().id


@pytest.mark.parametrize(
    "retold",
    [
        {"timestamp": "1443165174", "micro_timestamp": "1443165174145", "error_code": "943"},
        {"message_id": 14466445287300014003},
        {"timestamp": 1443165174145, "micro_timestamp": 1443165174145000},
        {"to": "35679000999", "from": "", "sms_from": "Fortytwo"},
        {"client_message_id": "c-2", "brand_new": [1, 2, 3]},
    ],
)
def test_a_report_retold_in_another_way_is_the_same_event(retold: dict[str, Any]) -> None:
    assert report(**retold).id == report().id


@given(st.randoms(), st.sampled_from([None, 1, "\t"]))
def test_neither_the_order_of_keys_nor_white_space_makes_another_event(
    order: random.Random, indent: int | str | None
) -> None:
    shuffled = list(REPORT.items())
    order.shuffle(shuffled)
    (event,) = read(json.dumps({"data": [dict(shuffled)]}, indent=indent).encode())
    assert event.id == report().id


def test_neither_source_nor_job_nor_time_of_receipt_makes_another_event() -> None:
    (event,) = events.of(
        wire.read(json.dumps({"data": [REPORT]}).encode(), None),
        source="other",
        received_at=RECEIVED + timedelta(days=1),
    )
    assert event.id == report().id


def test_a_reply_is_known_by_its_message_and_by_its_callback() -> None:
    assert reply(req_uuid="another", message={"text": "another"}).id == reply().id
    assert reply(reply_message_id=14466445287300014999).id == reply().id
    assert reply(reply_message_id="2").id != reply().id
    assert events.request_id("1") == events.request_id("1")
    # Three families of marks share one room in Redis.
    assert len({events.request_id("1"), events.reply_id("1"), events.report_id("1", None, "", None, None)}) == 3


def test_an_id_is_short_and_fit_for_keys_and_headers() -> None:
    assert len(report().id) == 24
    assert set(report().id) <= set("0123456789abcdef")


def test_ids_stay_the_same_from_version_to_version() -> None:
    # Another derivation would make every event of the last day new once more.
    assert events.report_id("14466445287300014003", "SMS", "DELIVRD", 1443165174145, 0) == "c3b4ed73b1b3a702402f9b62"
    assert events.reply_id("14466445287300014999") == "9aaf75ff5c4cd914b7693d55"


# --- on their way through the queue


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


unknown_keys = st.text(st.characters(exclude_categories=["Cs"])).map("x-".__add__)


@given(st.dictionaries(unknown_keys, numbers))
def test_an_event_comes_out_of_a_queue_as_it_went_in(extra: dict[str, Any]) -> None:
    original: list[Event] = [report(**extra), reply(**extra)]
    encoded = b"[" + b",".join(events.encode(event) for event in original) + b"]"
    assert events.decode(encoded) == original
    assert events.decode(encoded.decode()) == original
    assert events.convert(msgspec.json.decode(encoded)) == original
