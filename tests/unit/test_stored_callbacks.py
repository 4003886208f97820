"""A callback in its job: a body that is JSON as it was received, any other as text; both are read back byte by byte."""

from typing import Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared import batches, queues
from shared.batches import Accepted, TracedAccepted

TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AS_RECEIVED: Final = (
    '{"api_job_id":"j","data":[{"message_id":"1","status":"SEEN"}]}',
    '{"data":[{"message_id":"1","status":"SEEN","from":"Grüße 👋🏽\u2028"}]}',
    r'{"data":[{"message_id":"1","status":"SEEN","from":"Gr\u00fc\u00dfe \" \\"}]}',
    '{ "data" : [\n\t{"message_id":"1", "status":"SEEN"}\r\n] }',
    '{"data":[{"message_id":123456789012345678901234567890,"status":"SEEN","price":1.50}]}',
    '{"data":"[{\\"message_id\\":\\"1\\"}]"}',
    '[{"message_id":"1","status":"SEEN"}]',
    "{}",
)
AS_TEXT: Final = (
    "",
    "{",
    '{"a":1},{"b":2}',
    "][",
    "no JSON",
    '"{}"',
    "7",
    ' {"data":[]}',
    '{"data":[]}\n',
    "\ufeff{}",
    r'{"data":[{"message_id":"1","status":"SEEN","from":"\ud83d"}]}',
    '{"a":' * 2000 + "1" + "}" * 2000,
)


def data_of(*callbacks: Accepted) -> bytes:
    data: bytes = batches.expand_job(callbacks)["data"]
    return data


def read_back(*callbacks: Accepted) -> list[Accepted]:
    _version, stored = queues.parse_arguments(data_of(*callbacks))
    return [batches.decode_callback(one) for one in stored]


def accepted(body: str) -> Accepted:
    return Accepted("status", "gw", 1_700_000_000_000, 1, body)


@pytest.mark.parametrize("body", AS_RECEIVED)
def test_a_body_that_is_json_stands_in_the_job_as_it_was_received(body: str) -> None:
    assert f",{body}]".encode() in data_of(accepted(body))
    assert read_back(accepted(body), accepted("x")) == [accepted(body), accepted("x")]


@pytest.mark.parametrize("body", AS_TEXT)
def test_another_body_is_text_in_the_job(body: str) -> None:
    assert msgspec.json.encode(body) in data_of(accepted(body))
    assert read_back(accepted(body), accepted("{}")) == [accepted(body), accepted("{}")]


@given(st.lists(st.text('{}[]":,\\u1a\n ', max_size=20) | st.text(max_size=20), max_size=4))
@example(['{"a":1}', '["b"]', '{"a"'])
def test_no_body_changes_another(bodies: list[str]) -> None:
    callbacks = [accepted(body) for body in bodies]
    assert read_back(*callbacks) == callbacks


@pytest.mark.parametrize("body", ["{}", "no JSON"])
def test_a_trace_follows_either_form(body: str) -> None:
    traced = TracedAccepted("reply", "gw", 1, 1, body, TRACE)
    assert read_back(traced, accepted(body)) == [traced, accepted(body)]


def test_a_callback_that_was_stored_as_text_is_read() -> None:
    stored = msgspec.json.encode(["status", "gw", 1, 2, '{"data":[{"message_id":"1"}]}'])
    assert batches.decode_callback(msgspec.Raw(stored)) == Accepted(
        "status", "gw", 1, 2, '{"data":[{"message_id":"1"}]}'
    )
