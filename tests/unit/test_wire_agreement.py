"""What the web process accepts becomes events in a worker, whatever the fields hold and however large a bundle is.

The web process answers 200 by what `check` says, and never sees the callback again.
"""

import itertools
import json
from typing import Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared import callback_events, events, readable_records, wire
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Kind, Record, ReplyCallback, StatusEnvelope

NOW_MS: Final = 1_767_225_600_000
NOW: Final = events.utc_time(NOW_MS)
# As they are in the body, byte by byte.
ODD: Final = [
    b"null", b"true", b'""', b'" "', b"0", b"-0", b"1.5", b"1e400", b"-1e999999999", b"{}", b"[]", b'{"a":1e400}',
    b"9" * 17, b"9" * 18, b"-" + b"9" * 19, b"9" * 4299, b"9" * 4300, b"9" * 4301, b"-" + b"9" * 4300,
    b'"%s"' % (b"9" * 17), b'"%s"' % (b"9" * 18), b'"%s"' % (b"9" * 5000),
    rb'"\n"', rb'"1\n"', rb'"\n1"', rb'"1\r\n"', rb'"1\u2028"', rb'"1\u0000"', rb'"1\u0085"', b'"-"', b'"+"', b'"+1"',
    b'"--1"', b'"-\\n"', b'"1-"', b'"1_000"', b'" 1"', b'"1 "', b'"1.0"', b'"1e3"', b'"0x1"', b'"Infinity"', b'"nan"',
    rb'"\u0663"', rb'"\u0663\u0664\n"', rb'"\uff11\uff12"', rb'"\u00b2"', rb'"\u2167"', rb'"\u22121"',
    rb'"\ud83d"', rb'"\ude00\ud83d"', b"-62135596800", b"-62135596801", b"1" + b"0" * 17, b'"-%s"' % (b"9" * 17),
    b"[" * 99 + b"]" * 99, b"[" * 101 + b"]" * 101, b"[" * 498 + b"]" * 498, b"[" * 950 + b"]" * 950,
]  # fmt: skip
RECORDS_PER_STEP: Final = readable_records.RECORDS_PER_STEP // 10
KINDS: Final[tuple[Kind | None, ...]] = ("status", "reply", None)


def keys_of(struct: type[msgspec.Struct]) -> list[bytes]:
    return [*(field.encode_name.encode() for field in msgspec.structs.fields(struct)), b"unknown"]


def assert_agreed(body: bytes, kind: Kind | None) -> None:
    """Assert that a worker makes of `body` what `check` says of it."""
    try:
        shape = wire.check(body, kind)
    except (NotJson, UnexpectedShape) as exc:
        with pytest.raises(type(exc)):
            wire.read(body, kind)
        return
    # The worker reads it as the kind that `check` found, which is stored with it.
    callback = wire.read(body, shape.kind)
    made = list(callback_events.from_callback(callback, source="fortytwo", received_at=NOW))
    assert (callback.kind, callback.faults) == (shape.kind, shape.faults)
    assert len(made) == len(callback.records) == shape.records - len(shape.faults) > 0
    assert events.decode(b"[%b]" % b",".join(map(events.encode, made))) == made
    # What an expand worker stores, without decoding a record, is read as the same events.
    stored = callback_events.encoded_from_callback(callback, source="fortytwo", received_ms=NOW_MS)
    encoded = [each for _, _, those in stored for each in those]
    read = events.decode(b"[%b]" % b",".join(encoded))
    assert (read, str(read)) == (made, str(made))  # as text too, because 1 == 1.0 == True
    assert not any(b"\n" in each for each in encoded)
    for event in made:
        assert len(event.to_json().splitlines()) == 1


def members(keys: dict[bytes, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % pair for pair in keys.items())


def bundle(envelope: dict[bytes, bytes], reports: list[dict[bytes, bytes]]) -> bytes:
    records = b",".join(members({b"message_id": b'"1"', b"status": b'"SEEN"', **report}) for report in reports)
    return members({b"data": b"[%b]" % records, **envelope})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", keys_of(Record))
def test_an_odd_value_in_a_report(kind: Kind | None, key: bytes) -> None:
    for value in ODD:
        assert_agreed(bundle({}, [{key: value}]), kind)
        assert_agreed(bundle({}, [{}, {key: value}]), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", keys_of(StatusEnvelope))
def test_an_odd_value_next_to_the_reports(kind: Kind | None, key: bytes) -> None:
    for value in ODD:
        assert_agreed(bundle({key: value}, [{}]), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", keys_of(ReplyCallback))
def test_an_odd_value_in_a_reply(kind: Kind | None, key: bytes) -> None:
    for value in (*ODD, *(b'{"text":%b}' % value for value in ODD if key == b"message")):
        assert_agreed(members({b"reply_message_id": b'"1"', key: value}), kind)


odd = st.sampled_from(ODD) | st.text("0123456789-+eE. \n\r\t\x00\u0663\u00b2\uff11\u2167", max_size=20).map(
    lambda text: json.dumps(text).encode()
)
report = st.dictionaries(st.sampled_from(keys_of(Record)), odd, max_size=4)
reply = st.dictionaries(st.sampled_from(keys_of(ReplyCallback)), odd, max_size=5)
around = st.dictionaries(st.sampled_from([*keys_of(StatusEnvelope), b"reply_message_id"]), odd, max_size=2)


@given(around, st.lists(report, min_size=1, max_size=4), st.sampled_from(KINDS))
@example({}, [{b"error_code": rb'"\n"'}], "status")
def test_any_odd_values_in_a_bundle(around: dict[bytes, bytes], reports: list[dict[bytes, bytes]], kind: Kind) -> None:
    assert_agreed(bundle(around, reports), kind)


@given(reply, st.sampled_from(KINDS))
@example({b"reply_message_id": b"1", b"timestamp": rb'"\n"'}, "reply")
def test_any_odd_values_in_a_reply(keys: dict[bytes, bytes], kind: Kind) -> None:
    assert_agreed(members(keys), kind)


@given(around, report, st.integers(0, 3 * RECORDS_PER_STEP), st.sampled_from(KINDS))
def test_odd_values_in_one_record_of_a_large_bundle(
    around: dict[bytes, bytes], odd: dict[bytes, bytes], index: int, kind: Kind
) -> None:
    record = members({b"message_id": b'"1"', b"status": b'"DELIVRD"', b"to": b'"35679000123"'})
    wrong = members({b"message_id": b'"1"', b"status": b'"SEEN"', **odd})
    with pytest.MonkeyPatch.context() as patched:
        # Large is a tenth of what it is, so that a hundred bundles are read in a second.
        patched.setattr(wire, "SMALL_BODY_BYTES", wire.SMALL_BODY_BYTES // 10)
        patched.setattr(readable_records, "RECORDS_PER_STEP", RECORDS_PER_STEP)
        records = [record] * (wire.SMALL_BODY_BYTES // len(record) + 1)
        records[index:index] = [wrong]
        body = members({b"data": b"[%b]" % b",".join(records), **around})
        assert len(body) > wire.SMALL_BODY_BYTES
        assert_agreed(body, kind)


# What the specification allows: 36 and 255 characters with the destinations of one send request.
@pytest.mark.parametrize("records", [18_000, 50_000])
@pytest.mark.parametrize(
    "letter", [rb"\u00fc", rb"\ud83d\ude00", "ü".encode(), "😀".encode()], ids=["escaped", "escaped pair", "ü", "😀"]
)
def test_a_documented_bundle_becomes_events_however_its_letters_are_escaped(letter: bytes, records: int) -> None:
    record = b'{"message_id":"14466445287300014003","status":"DELIVRD"}'
    body = b'{"api_job_id":"%s","client_job_id":"%s","data":[%s]}' % (
        b"a" * 36,
        letter * 255,
        b",".join([record] * records),
    )
    for kind in KINDS:
        assert wire.check(body, kind) == wire.Shape("status", records)
    callback = wire.read(body, "status")
    assert len(callback.records) == records
    for event in itertools.islice(callback_events.from_callback(callback, source="fortytwo", received_at=NOW), 3):
        assert event.client_job_id == json.loads(b'"%s"' % letter) * 255


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("records", "unreadable"), [(8_192, {}), (8_193, {"client_job_id": 1})])
def test_an_envelope_that_is_too_large_for_redis_costs_itself_alone(
    kind: Kind | None, records: int, unreadable: dict[str, int]
) -> None:
    ids = {b"api_job_id": b'"%b"' % (b"a" * 1024), b"client_job_id": b'"%b"' % (rb"\u00fc" * 1024)}
    body = bundle(ids, [{}] * records)
    assert wire.check(body, kind) == wire.Shape("status", records)
    callback = wire.read(body, kind)
    assert len(callback.records) == records
    assert callback.unreadable_fields == unreadable


@pytest.mark.parametrize(
    "more", ['"req_uuid":"1111"', '"req_uuid":null', '"reply_message_id":null', '"reply_message_id":""']
)
def test_a_bundle_of_reports_at_the_other_url_is_one_whatever_its_envelope_says(more: str) -> None:
    body = f'{{{more},"data":[{{"message_id":"1","status":"SEEN"}},{{"message_id":"2","status":"SEEN"}}]}}'.encode()

    assert wire.check(body, "reply").kind == wire.read(body, "reply").kind == "status"
    assert len(wire.read(body, "reply").records) == 2
