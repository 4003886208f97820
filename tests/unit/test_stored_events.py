"""The events of a delivery job are decoded with the job; each is there as it is stored, too."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from shared import events, queues, stored_events
from shared.stored_events import StoredEvents
from tests.unit.example_events import reply, report

TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WHOLE: Final = events.encode(report())
TRACED: Final = events.with_trace(events.encode(reply()), TRACE)
# As expand workers write most events: times are numbers, and the record is as it was received.
COMPACT: Final = (
    b'["s","5d0d3c9b5c4f1b9d3a1f7c1e", "main",null,null,1443165174.145,1443165174500,'
    b'{"message_id":"1","status":"SEEN","price":123456789012345678901234567890,"x":1.50}]'
)
STORED: Final = [WHOLE, TRACED, COMPACT]
NO_EVENTS: Final = [b"null", b"7", b'"taker"', b"[]", b'["s","id"]', b'["unknown",1]', b'{"a":1.50}', b'["s","\xc3("]']


def data_of(encoded: Sequence[bytes]) -> bytes:
    return b'["workers.jobs.deliver",null,[1,"taker",2,[%b]],{}]' % b",".join(encoded)


def read(encoded: Sequence[bytes], portions: Sequence[bytes] = ()) -> Any:
    version, handler, attempt, found = queues.parse_arguments(data_of(encoded), portions)
    assert (version, handler, attempt) == (1, "taker", 2)
    return found


@pytest.mark.parametrize(
    ("own", "portions"),
    [(STORED, []), ([], [b",".join(STORED)]), ([], [WHOLE, b",".join(STORED[1:])]), (STORED[:2], [COMPACT])],
    ids=["in the job", "in a portion", "in two portions", "in both"],
)
def test_events_are_decoded_with_their_job_and_are_there_as_they_are_stored(
    own: list[bytes], portions: list[bytes]
) -> None:
    found = read(own, portions)

    assert isinstance(found, StoredEvents)
    assert len(found) == len(STORED)
    assert stored_events.decode(found, range(3)) == events.decode_each(STORED)
    assert stored_events.decode(found, [2, 0]) == events.decode_each([COMPACT, WHOLE])
    assert list(map(bytes, found)) == STORED
    assert [bytes(found[position]) for position in (2, 0)] == [COMPACT, WHOLE]
    assert [events.read_trace(one) for one in found] == ["", TRACE, ""]


@pytest.mark.parametrize("other", NO_EVENTS)
@pytest.mark.parametrize("is_portion", [False, True])
def test_the_others_are_read_without_what_is_no_event(other: bytes, *, is_portion: bool) -> None:
    stored = [WHOLE, other, COMPACT]
    found = read([WHOLE], [b",".join(stored[1:])]) if is_portion else read(stored)

    assert list(map(bytes, found)) == stored
    assert stored_events.decode(found, [0, 2]) == events.decode_each([WHOLE, COMPACT])
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        stored_events.decode(found, [1])


@pytest.mark.parametrize("version", [b"2", b'"1"', b"true", b"0"])
def test_the_version_of_a_job_with_events_is_checked(version: bytes) -> None:
    data = data_of(STORED).replace(b"[1,", b"[%b," % version)
    with pytest.raises(ValueError, match="version"):
        queues.parse_arguments(data)


def test_a_job_that_is_cut_off_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        queues.parse_arguments(data_of(STORED)[:-9])
