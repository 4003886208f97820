"""The gateway's two bodies: what is read, what is a fault of one record, what is not the documented shape, not JSON."""

import json
from typing import Any

import msgspec
import pytest

from shared import body_parser, normalize, wire
from shared.errors import NotJson
from shared.schema import Kind, Record, ReplyCallback, ReplyMessage, StatusEnvelope
from tests.unit.bodies import body_with, check_error

STATUS = b"""{
  "api_job_id": "8de46f30-6b0f-4a5f-9b3a-6c7f0e9fbd6a",
  "client_job_id": "autumn",
  "data": [
    {"type": "SMS", "message_id": "14466445287300014003", "status": "DELIVRD", "timestamp": 1443165174,
     "micro_timestamp": 1443165174145, "to": "35679000123", "from": "Fortytwo", "client_message_id": "c-1",
     "error_code": 0}
  ]
}"""
REPLY = """{
  "api_job_id": "8de46f30-6b0f-4a5f-9b3a-6c7f0e9fbd6a",
  "reply_message_id": "14466445287300014999", "orig_message_id": "14466445287300014003",
  "req_uuid": "0b8ae9b2-2f0f-4f5e-8f4e-0b2f4c3c8a11", "channel": "VIBER", "timestamp": 1443165174,
  "micro_timestamp": 1443165174145, "from": "35679000123", "to": "Fortytwo", "message": {"text": "Grüße 👋🏽 שלום"}
}""".encode()


def read_whole(body: bytes, kind: Kind | None) -> tuple[Any, ...]:
    callback = wire.read(body, kind)
    return callback.kind, callback.envelope, list(callback.records), callback.extra, callback.faults


@pytest.mark.parametrize("kind", ["status", None])
def test_a_status_callback_is_read_as_specified(kind: Kind | None) -> None:
    assert wire.check(STATUS, kind) == wire.Shape("status", 1)

    callback = wire.read(STATUS, kind)

    assert callback.envelope == StatusEnvelope(
        api_job_id="8de46f30-6b0f-4a5f-9b3a-6c7f0e9fbd6a", client_job_id="autumn"
    )
    ((report, raw),) = callback.records
    assert isinstance(report, Record)
    assert (report.type, report.message_id, report.status) == ("SMS", "14466445287300014003", "DELIVRD")
    assert (report.to, normalize.sender(report), report.client_message_id) == ("35679000123", "Fortytwo", "c-1")
    assert msgspec.json.decode(raw) == json.loads(STATUS)["data"][0]
    assert callback.faults == ()


@pytest.mark.parametrize("kind", ["reply", None])
def test_a_reply_is_read_as_specified(kind: Kind | None) -> None:
    assert wire.check(REPLY, kind) == wire.Shape("reply", 1)

    ((reply, raw),) = wire.read(REPLY, kind).records

    assert isinstance(reply, ReplyCallback)
    assert reply.reply_message_id == "14466445287300014999"
    assert reply.message == ReplyMessage(text="Grüße 👋🏽 שלום")
    assert msgspec.json.decode(raw) == json.loads(REPLY)


@pytest.mark.parametrize("message", [b'"message":{}', b'"message":null', b'"message":{"sticker":7}', b'"x":1'])
def test_a_reply_without_text_is_still_a_reply(message: bytes) -> None:
    assert wire.check(b'{"reply_message_id":"1",' + message + b"}", None) == wire.Shape("reply", 1)


def test_an_id_given_as_a_number_beyond_64_bits_is_its_digits() -> None:
    callback = wire.read(b'{"data":[{"message_id":123456789012345678901234567890,"status":"SEEN"}]}', None)
    ((read, raw),) = callback.records
    assert isinstance(read, Record)
    assert str(read.message_id) == "123456789012345678901234567890"
    assert msgspec.json.decode(raw)["message_id"] == 123456789012345678901234567890


def test_unknown_statuses_channels_and_keys_are_accepted() -> None:
    body = (
        b'{"data":[{"message_id":"1","status":"READ","type":"RCS","price":{"eur":1.5}}],"account":7,"api_job_id":"j"}'
    )
    callback = wire.read(body, None)
    ((read, raw),) = callback.records
    assert isinstance(read, Record)
    assert (read.status, read.type) == ("READ", "RCS")
    assert msgspec.json.decode(raw) == {"message_id": "1", "status": "READ", "type": "RCS", "price": {"eur": 1.5}}
    assert callback.extra == {"account": 7}


def test_a_bad_record_leaves_its_siblings() -> None:
    body = b"""{"data": [{"message_id": "1", "status": "DELIVRD"}, {"message_id": "2"}, 7,
                         {"message_id": {"4": 4}, "status": "SEEN"},
                         {"message_id": "5", "status": "SEEN"}]}"""

    shape, callback = wire.check(body, None), wire.read(body, None)

    assert [str(read.message_id) for read, _ in callback.records if isinstance(read, Record)] == ["1", "5"]
    assert shape.records == 5
    assert shape.faults == (
        body_parser.RecordFault(1, "missing required key: $.data[1].status"),
        body_parser.RecordFault(2, "Expected object, got int: $.data[2]"),
        body_parser.RecordFault(3, "Expected int | str, got object: $.data[3].message_id"),
    )
    assert callback.faults == shape.faults
    assert callback.unreadable == (b'{"data":[{"message_id": "2"},7,{"message_id": {"4": 4}, "status": "SEEN"}]}')


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"[]", "Expected object, got array: $"),
        (b"null", "Expected object, got null: $"),
        (b"7", "Expected object, got int: $"),
        (b"{}", "neither a status callback ($.data) nor a reply ($.reply_message_id): $"),
        (b'{"data":null}', "Expected array, got null: $.data"),
        (b'{"data":[]}', "Expected array of length >= 1: $.data"),
        (b'{"data":[{"message_id":"1"}]}', "missing required key: $.data[0].status"),
        (b'{"data":[{"status":"SEEN"}]}', "missing required key: $.data[0].message_id"),
        (b'{"data":[{"message_id":"1","status":""}]}', "Expected str of length >= 1: $.data[0].status"),
        (b'{"data":[{"message_id":"1","status":true}]}', "Expected str, got bool: $.data[0].status"),
        (b'{"data":[{"message_id":["1"],"status":"A"}]}', "Expected int | str, got array: $.data[0].message_id"),
        (b'{"data":[{"message_id":"1","status":null}]}', "Expected str, got null: $.data[0].status"),
        (b'{"reply_message_id":""}', "missing required key: $.reply_message_id"),
        (b'{"reply_message_id":[1]}', "missing required key: $.reply_message_id"),
    ],
)  # fmt: skip
def test_an_unexpected_shape_is_reported_with_its_path(body: bytes, error: str) -> None:
    assert check_error(body) == error


def test_a_callback_posted_where_the_other_kind_belongs_is_read_as_what_it_is() -> None:
    assert wire.check(REPLY, "status") == wire.check(REPLY, "reply")
    assert read_whole(STATUS, "reply") == read_whole(STATUS, "status")


def test_of_many_bad_records_the_first_three_are_named() -> None:
    error = check_error(b'{"data":[1,2,3,4,5]}')
    assert error.count("Expected object, got int") == 3
    assert error.endswith("and 2 more records")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"data=1&status=2",
        b"<html>",
        STATUS[:-1],
        STATUS[: len(STATUS) // 2],
        STATUS + b" x",
        body_with(b'"x":NaN'),
        body_with(b'"x":Infinity'),
        body_with(b'"x":01'),
        body_with(b'"x":"\\q"'),
        body_with(b'"x":"\n"'),
        body_with(b'"x":"\xff"'),
        body_with(b'"x":"\xed\xa0\xbd"'),
        STATUS.decode().encode("utf-16"),
    ],
)
@pytest.mark.parametrize("kind", ["status", "reply", None])
def test_a_body_that_is_not_json_or_not_utf_8_is_not_an_unexpected_shape(body: bytes, kind: Kind | None) -> None:
    with pytest.raises(NotJson):
        wire.check(body, kind)
    with pytest.raises(NotJson):
        wire.read(body, kind)


def test_invalid_utf_8_is_reported_with_its_position() -> None:
    with pytest.raises(NotJson, match="invalid start byte at byte 6"):
        wire.check(b'{"a":"\xff"}', None)


@pytest.mark.parametrize("kind", ["status", None])
def test_a_byte_order_mark_is_skipped(kind: Kind | None) -> None:
    assert wire.check(b"\xef\xbb\xbf" + STATUS, kind) == wire.Shape("status", 1)
    assert read_whole(b"\xef\xbb\xbf" + STATUS, kind) == read_whole(STATUS, kind)


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"cut off \ud83d", "cut off \ufffd"),
        (rb"\ude00 came alone", "\ufffd came alone"),
        (rb"\udc4b\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"\uD83D\uDE00", "\U0001f600"),
    ],
)
def test_half_an_emoji_becomes_one_replacement_character(escaped: bytes, text: str) -> None:
    body = b'{"reply_message_id":"1","message":{"text":"%s"}}' % escaped
    assert wire.check(body, "reply") == wire.Shape("reply", 1)
    reply = wire.read(body, None).envelope
    assert isinstance(reply, ReplyCallback)
    assert reply.message is not None
    assert reply.message.text == text


def test_of_a_repeated_key_the_last_counts() -> None:
    callback = wire.read(b'{"reply_message_id":"1","reply_message_id":"2"}', None)
    assert isinstance(callback.envelope, ReplyCallback)
    assert callback.envelope.reply_message_id == "2"
