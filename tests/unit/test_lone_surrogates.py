"""Lone surrogates among backslashes: found as a JSON reader finds them, without memory for each backslash."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import json_reader, wire
from shared.cooperative import run_to_end
from shared.schema import ReplyCallback

PIECES = (r"\ud83d", r"\uDE00", r"\\", r"\"", r"\n", "ud83d", "u", "d", "😀", " ")


def text_of(escaped: bytes) -> str:
    """Return a JSON string as the standard library reads it, with U+FFFD for each lone surrogate."""
    text: str = json.loads(escaped)
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)


@given(st.lists(st.sampled_from(PIECES)))
def test_each_lone_surrogate_becomes_u_fffd_and_the_rest_stays(pieces: list[str]) -> None:
    escaped = f'"{"".join(pieces)}"'.encode()
    body = b'{"reply_message_id":"1","message":{"text":%s}}' % escaped
    callback = wire.read(body, "reply")
    [(reply, _)] = callback.records
    assert isinstance(reply, ReplyCallback)
    assert reply.message is not None
    assert reply.message.text == text_of(escaped)


@pytest.mark.parametrize("filling", [b"\\\\", b"\\\\a", b"\\n"])
def test_many_backslashes_next_to_a_lone_surrogate_take_no_extra_memory(filling: bytes) -> None:
    text = b"\\ud83d" + filling * ((1 << 20) // len(filling))
    body = b'{"reply_message_id":"1","message":{"text":"%s"}}' % text
    tracemalloc.start()
    try:
        wire.read(body, "reply")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * len(body)  # with a match for each backslash it was forty times
    assert msgspec.json.decode(run_to_end(json_reader.replace_lone_surrogates(b'"%s"' % text)))[0] == "\ufffd"
