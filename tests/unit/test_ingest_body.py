"""Reading a body piece by piece: the limits of size and time, and the count of bytes in flight."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from ingest.answers import Refused
from ingest.body import DISCARD_BYTES, REQUEST_BYTES, ClientDisconnected, InFlight, discard, read

Receive = Callable[[], Awaitable[Message]]
GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def client(*messages: Message, late: bool = False) -> Receive:
    """Return a function that receives these messages in order; `late`: each after a turn of the event loop."""
    left = list(messages)

    async def receive() -> Message:
        if late:
            await asyncio.sleep(0)
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def read_all(receive: Receive, in_flight: InFlight, *, limit_bytes: int = 100, timeout_seconds: float = 30) -> bytes:
    return asyncio.run(read({}, receive, limit_bytes=limit_bytes, timeout_seconds=timeout_seconds, in_flight=in_flight))


@given(st.lists(st.binary(max_size=40), min_size=1), st.booleans())
def test_a_body_is_read_in_any_pieces(pieces: list[bytes], late: bool) -> None:
    messages = [part(piece, more=number < len(pieces) - 1) for number, piece in enumerate(pieces)]
    in_flight, whole = InFlight(1 << 20), b"".join(pieces)
    if len(whole) <= 100:
        assert read_all(client(*messages, late=late), in_flight) == whole
        assert in_flight.held_bytes == len(whole) + REQUEST_BYTES
    else:
        with pytest.raises(Refused, match="too-large"):
            read_all(client(*messages, late=late), in_flight)
        assert in_flight.held_bytes == 0


@pytest.mark.parametrize("late", [False, True])
def test_a_body_that_stops_arriving_times_out(late: bool) -> None:
    in_flight = InFlight(1 << 20)
    for messages in ((), (part(b"{", more=True),)):
        with pytest.raises(Refused, match="too-slow"):
            read_all(client(*messages, late=late), in_flight, timeout_seconds=0.01)
        assert in_flight.held_bytes == 0


@pytest.mark.parametrize("late", [False, True])
def test_a_client_that_disconnects_leaves_nothing_reserved(late: bool) -> None:
    in_flight = InFlight(1 << 20)
    for messages in ((GONE,), (part(b"{", more=True), GONE)):
        with pytest.raises(ClientDisconnected):
            read_all(client(*messages, late=late), in_flight)
        assert in_flight.held_bytes == 0


def test_a_cancelled_read_leaves_nothing_reserved() -> None:
    async def scenario(receive: Receive) -> int:
        in_flight = InFlight(1 << 20)
        reading = asyncio.create_task(read({}, receive, limit_bytes=100, timeout_seconds=30, in_flight=in_flight))
        await asyncio.sleep(0.01)
        assert in_flight.held_bytes >= REQUEST_BYTES
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return in_flight.held_bytes

    assert asyncio.run(scenario(client())) == 0
    assert asyncio.run(scenario(client(part(b"{", more=True)))) == 0


@pytest.mark.parametrize("late", [False, True])
def test_the_limit_in_flight_is_checked_before_memory_grows(late: bool) -> None:
    in_flight = InFlight(REQUEST_BYTES + 10)
    for messages in ((part(b"x" * 11, more=False),), (part(b"x" * 6, more=True), part(b"x" * 6, more=False))):
        with pytest.raises(Refused, match="overload"):
            read_all(client(*messages, late=late), in_flight)
        assert in_flight.held_bytes == 0
    assert read_all(client(part(b"x" * 10, more=False), late=late), in_flight) == b"x" * 10
    with pytest.raises(Refused, match="overload"):
        read_all(client(part(b"", more=False), late=late), in_flight)
    in_flight.release(REQUEST_BYTES + 10)
    assert in_flight.held_bytes == 0


def test_discarding_ends_with_the_body_the_client_or_the_limits() -> None:
    async def scenario() -> None:
        await discard(client(part(b"x", more=True), part(b"x", more=False)))
        await discard(client(part(b"x", more=True), GONE))
        await discard(client(*[part(b"x" * (DISCARD_BYTES // 2), more=True)] * 2))
        await discard(client(part(b"x" * (DISCARD_BYTES + 1), more=True)))

    asyncio.run(scenario())


def test_of_a_discarded_body_no_more_is_kept_than_was_asked_for() -> None:
    async def scenario() -> tuple[bytes, bytes]:
        pieces = [part(b"ab", more=True), part(b"cd", more=True), part(b"ef", more=False)]
        return await discard(client(*pieces)), await discard(client(*pieces), keep_bytes=3)

    assert asyncio.run(scenario()) == (b"", b"abc")


def test_room_is_counted_until_it_is_given_back_and_only_if_it_is_there() -> None:
    in_flight = InFlight(10)
    with in_flight.room(6) as first, in_flight.room(6) as second, in_flight.room(4) as third:
        assert (first, second, third, in_flight.held_bytes) == (True, False, True, 10)
    assert in_flight.held_bytes == 0


@pytest.mark.parametrize("messages", [(part(b"x" * 200, more=True),), (part(b"x" * 90, more=True),), ()])
def test_a_refusal_after_the_first_read_says_that_the_body_has_begun(messages: tuple[Message, ...]) -> None:
    with pytest.raises(Refused) as refused:
        read_all(client(*messages), InFlight(REQUEST_BYTES + 50), timeout_seconds=0.01)
    assert refused.value.answer.body_begun


def test_a_refusal_before_anything_was_read_does_not() -> None:
    with pytest.raises(Refused) as refused:
        read_all(client(part(b"{}", more=False)), InFlight(REQUEST_BYTES - 1))
    assert not refused.value.answer.body_begun
