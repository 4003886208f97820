"""Bodies that no gateway sends: endless nesting and numbers, thousands of bad records; reading them is limited."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import json_reader, normalize, wire
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Kind, Record, StatusEnvelope
from tests.unit.bodies import body_with, check_error


@pytest.mark.parametrize("kind", ["status", "reply", None])
@pytest.mark.parametrize("nest", [(b"[", b"]"), (b'{"a":', b"}")])
def test_endless_nesting_is_refused(kind: Kind | None, nest: tuple[bytes, bytes]) -> None:
    deep = body_with(b'"x":' + nest[0] * 100_000 + b"1" + nest[1] * 100_000)
    with pytest.raises((UnexpectedShape, NotJson)):
        wire.check(deep, kind)
    with pytest.raises((UnexpectedShape, NotJson)):
        wire.read(deep, kind)


@pytest.mark.parametrize("number", [b"1" * 5000, b"1e400", b"-1e999999999"])
def test_an_enormous_number_in_an_unknown_key_stays_text(number: bytes) -> None:
    body = body_with(b'"x":' + number)
    [(_, raw)] = wire.read(body, None).records
    assert msgspec.json.decode(raw)["x"] == number.decode()
    assert wire.check(body, "status") == wire.Shape("status", 1)
    callback = wire.read(body_with(b'"error_code":' + number), None)
    [(read, raw)] = callback.records
    assert isinstance(read, Record)
    assert (read.error_code, msgspec.json.decode(raw)["error_code"]) == (None, number.decode())
    assert callback.unreadable_fields == {"error_code": 1}


def test_a_value_nested_too_deeply_stays_text() -> None:
    deep = b"[" * (json_reader.MAX_DEPTH + 1) + b"]" * (json_reader.MAX_DEPTH + 1)
    wide = b"[" + b",".join([b"[]"] * 1000) + b"]"
    body = b'{"data":[{"message_id":"1","status":"SEEN","x":%s},{"message_id":"2","status":"SEEN","x":%s}]}'
    (_, first), (_, second) = wire.read(body % (deep, wide), "status").records
    assert msgspec.json.decode(first)["x"] == deep.decode()
    assert msgspec.json.decode(second)["x"] == [[]] * 1000


@pytest.mark.parametrize("kind", ["status", "reply", None])
@pytest.mark.parametrize("depth", [json_reader.MAX_NESTING - 3, json_reader.MAX_NESTING, 900, 950, 1000])
def test_the_depth_of_the_callers_stack_changes_no_result(kind: Kind | None, depth: int) -> None:
    nest = b"[" * depth + b"]" * depth
    status = b'{"data":[%s],"x":%s}' % (b",".join([b'{"message_id":"1","status":"SEEN"}'] * 600), nest)
    for body in (body_with(b'"x":' + nest), status, b'{"reply_message_id":"1","x":%s}' % nest):
        readable = depth < json_reader.MAX_NESTING - 2
        for frames in (0, 300):
            assert is_read(wire.check, body, kind, frames) == readable
            assert is_read(wire.read, body, kind, frames) == readable


def is_read(reader: Callable[[bytes, Kind | None], object], body: bytes, kind: Kind | None, frames: int) -> bool:
    """Return whether `body` is read by a caller with this many more stack frames."""
    if frames:
        return is_read(reader, body, kind, frames - 1)
    try:
        reader(body, kind)
    except UnexpectedShape:
        return False
    return True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(["message_id", "status", "type", "timestamp", "micro_timestamp", "to", "from", "error_code"])
reports = st.dictionaries(keys, json_values) | json_values


@given(st.lists(reports, max_size=5), st.dictionaries(st.text(), json_values, max_size=3))
def test_each_record_is_read_or_is_a_fault_by_itself(data: list[Any], around: dict[str, Any]) -> None:
    body = json.dumps({**around, "data": data}).encode("utf-8", "surrogatepass")
    try:
        callback = wire.read(body, None)
    except (NotJson, UnexpectedShape):
        return
    assert len(callback.records) + len(callback.faults) == len(data)
    assert wire.check(body, None) == wire.Shape("status", len(data), callback.faults)
    wrong = {fault.index for fault in callback.faults}
    assert [msgspec.json.decode(raw) for _, raw in callback.records] == [
        item for i, item in enumerate(data) if i not in wrong
    ]
    for read, _ in callback.records:
        assert isinstance(read, Record)
        normalize.unix_ms(read)
        normalize.integer(read.error_code)


@given(
    st.binary() | json_values.map(lambda value: json.dumps(value).encode()), st.sampled_from(["status", "reply", None])
)
def test_no_body_raises_anything_but_the_two_errors(body: bytes, kind: Kind | None) -> None:
    for check in (wire.check, wire.read):
        with contextlib.suppress(NotJson, UnexpectedShape):
            check(body, kind)


def test_an_unreadable_unknown_key_costs_no_record() -> None:
    body = b'{"data":[{"message_id":"1","status":"SEEN"}],"35679123456":1e999,"deep":%s}' % (b"[" * 200 + b"]" * 200)
    callback = wire.read(body, "status")
    assert len(callback.records) == 1
    assert callback.extra["35679123456"] == "1e999"


def test_unknown_keys_next_to_the_records_are_not_multiplied_by_them() -> None:
    records = b",".join([b'{"message_id":"1","status":"SEEN"}'] * 1000)
    callback = wire.read(b'{"data":[%s],"new":"%s"}' % (records, b"x" * 100_000), "status")
    assert (len(callback.records), callback.extra) == (1000, {})
    callback = wire.read(b'{"data":[%s],"client_job_id":"%s"}' % (records, b"x" * 100_000), "status")
    assert (callback.envelope, callback.extra) == (StatusEnvelope(), {})
    assert callback.unreadable_fields == {"client_job_id": 1}


def test_a_bundle_with_too_many_faults_is_refused_as_a_whole() -> None:
    error = check_error(b'{"data":[{"message_id":"1","status":"SEEN"}%s]}' % (b",{}" * 100_000))
    assert error.startswith("more than 1000 records cannot be read: missing required key: $.data[1].message_id")


def test_the_copies_of_the_envelopes_texts_are_limited() -> None:
    records = b",".join([b'{"message_id":"1","status":"SEEN"}'] * 15_000)
    escaped = rb"\u0001" * 1000
    body = b'{"api_job_id":"%s","client_job_id":"%s","data":[%s]}' % (escaped, escaped, records)
    callback = wire.read(body, "status")
    assert callback.envelope == StatusEnvelope(api_job_id="\x01" * 1000)
    assert callback.unreadable_fields == {"client_job_id": 1}
    gateway = b'{"api_job_id":"%s","client_job_id":"%s","data":[%s]}' % (b"a" * 36, b"b" * 255, records)
    assert len(wire.read(gateway, "status").records) == 15_000
