"""A record is stored as it was received, if every reader of ours can decode it so; its event's `raw` is the same."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from shared import callback_events, events, wire
from shared.batches import Accepted
from shared.schema import Kind
from workers.expand.record_reader import RecordReader
from workers.runtime.settlement import FanOutEvents

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN: Final = '{"message_id":"1","status":"DELIVRD","to":"35679000123","from":"Grüße","error_code":0}'
# Each differs from its raw in bytes only, or is stored in another form for the reason that is given.
STORED_AS_RECEIVED: Final = {
    "documented": PLAIN,
    "blanks": '{"message_id": "1", "status": "SEEN"}',
    "repeated key": '{"message_id":"0","status":"SEEN","message_id":"1"}',
    "null and empty": '{"message_id":"1","status":"SEEN","to":null,"from":"","type":""}',
    "beyond ASCII": '{"message_id":"1","status":"SEEN","from":"\u2028👋🏽\u0085"}',
    "numbers as text": '{"message_id":1,"status":"SEEN","timestamp":"1443165174","error_code":"0"}',
}
STORED_DIFFERENTLY: Final = {
    "escapes": r'{"message_id":"1","status":"SEEN","from":"Gr\u00fc\u00dfe"}',
    "escaped digits": r'{"message_id":"1","status":"SEEN","to":"\u003356"}',
    "half of a pair": r'{"message_id":"1","status":"SEEN","from":"\ud83d"}',
    "indentation": '{\n  "message_id": "1",\n  "status": "SEEN"\n}',
    "unknown key": '{"message_id":"1", "status":"SEEN","price":{"eur":1.50}}',
    "unknown number beyond a double": '{"message_id":"1","status":"SEEN","x":1e400}',
    "number of 5000 digits": f'{{"message_id":"1","status":"SEEN","error_code":{"9" * 5000}}}',
    "value of another type": '{"message_id":"1", "status":"SEEN","to":["1"]}',
    "nested too deeply": f'{{"message_id":"1","status":"SEEN","x":{"[" * 101}{"]" * 101}}}',
}
REPLY: Final = '{"reply_message_id":"7","req_uuid":"u","from":"35679000123","message":{"text":"Hi"}}'


def stored(body: str, kind: Kind, *, records: int = 1) -> list[bytes]:
    """Return the events that an expand worker stores of a callback."""
    items = list(RecordReader(()).read_items(Accepted(kind, "main", 1_767_225_600_000, records, body)))
    assert sum(item.records for item in items) == records
    return [event for item in items if isinstance(item, FanOutEvents) for event in item.events]


def raw_of(encoded: bytes) -> dict[str, Any]:
    (event,) = events.decode(b"[%b]" % encoded)
    assert json.loads(event.to_json())["raw"] == event.raw
    assert len(event.to_json().splitlines()) == 1
    return event.raw


@pytest.mark.parametrize("record", STORED_AS_RECEIVED.values(), ids=STORED_AS_RECEIVED)
@pytest.mark.parametrize("siblings", [0, 3000], ids=["at once", "in parts"])
def test_a_plain_record_is_stored_byte_by_byte(record: str, siblings: int) -> None:
    data = ",".join([record, *[PLAIN] * siblings])
    encoded, *others = stored(f'{{"data":[{data}],"api_job_id":"j"}}', "status", records=siblings + 1)

    assert encoded.endswith(b",%b]" % record.encode())
    assert raw_of(encoded) == json.loads(record)
    assert all(other.endswith(b",%b]" % PLAIN.encode()) for other in others)


@pytest.mark.parametrize("record", STORED_DIFFERENTLY.values(), ids=STORED_DIFFERENTLY)
@pytest.mark.parametrize("siblings", [0, 3000], ids=["at once", "in parts"])
def test_another_record_is_stored_as_all_readers_can_decode_it(record: str, siblings: int) -> None:
    data = ",".join([record, *[PLAIN] * siblings])
    body = f'{{"data":[{data}]}}'
    encoded, *_ = stored(body, "status", records=siblings + 1)

    assert not encoded.endswith(b",%b]" % record.encode())
    assert b"\\" not in encoded
    assert b"\n" not in encoded
    callback = wire.read(body.encode(), "status")
    made = next(callback_events.from_callback(callback, source="main", received_at=NOW))
    assert events.decode(b"[%b]" % encoded) == [made]
    assert raw_of(encoded).keys() == made.raw.keys()


def test_a_reply_is_stored_byte_by_byte() -> None:
    (encoded,) = stored(REPLY, "reply")
    assert encoded.endswith(b",%b]" % REPLY.encode())
    assert raw_of(encoded) == json.loads(REPLY)


def test_unknown_keys_around_the_records_come_first_and_lose_to_their_own() -> None:
    other = '{"message_id":"2","status":"SEEN","account":8}'
    encoded = stored(f'{{"data":[{PLAIN},{other}],"account":7}}', "status", records=2)
    assert [raw_of(each) for each in encoded] == [
        {"account": 7, **json.loads(PLAIN)},
        {"message_id": "2", "status": "SEEN", "account": 8},
    ]
