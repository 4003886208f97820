"""Halves of surrogate pairs, among backslashes: found as a JSON reader finds them, and without a heap of matches."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import lone_surrogates, wire
from shared.cooperative import run_to_end

PIECES = (r"\ud83d", r"\uDE00", r"\\", r"\"", r"\n", "ud83d", "u", "d", "😀", " ")


def text_of(escaped: bytes) -> str:
    """Read a JSON string as the standard library does, which keeps lone surrogates, and put U+FFFD for each."""
    text: str = json.loads(escaped)
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)


@given(st.lists(st.sampled_from(PIECES)))
def test_each_half_alone_becomes_u_fffd_and_all_else_stays(pieces: list[str]) -> None:
    escaped = f'"{"".join(pieces)}"'.encode()
    body = b'{"reply_message_id":"1","message":{"text":%s}}' % escaped
    callback = wire.read(body, "reply")
    [(reply, _)] = callback.records
    assert isinstance(reply, wire.ReplyCallback)
    assert reply.message is not None
    assert reply.message.text == text_of(escaped)


@pytest.mark.parametrize("filling", [b"\\\\", b"\\\\a", b"\\n"])
def test_a_large_text_of_backslashes_beside_one_takes_no_memory_of_its_own(filling: bytes) -> None:
    text = b"\\ud83d" + filling * ((1 << 20) // len(filling))
    body = b'{"reply_message_id":"1","message":{"text":"%s"}}' % text
    tracemalloc.start()
    try:
        wire.read(body, "reply")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * len(body)  # a match for each backslash made it forty times
    assert msgspec.json.decode(run_to_end(lone_surrogates.replace_lone_surrogates(b'"%s"' % text)))[0] == "\ufffd"
