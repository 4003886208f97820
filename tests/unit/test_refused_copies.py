"""Copies of bodies that were refused unread: kept after the answer, within what the process may hold."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message, Scope

from ingest.answers import Refused
from ingest.body import COPY_BYTES, HELD_COPY_BYTES, REQUEST_BYTES, InFlight
from ingest.callbacks import CallbackReceiver
from ingest.group_commit import BatchEntry, Destination, GroupCommit
from ingest.sources import AddressRules, Tokens
from shared.batches import Quarantined
from shared.setting_values import ANY_NETWORK, Token

LIMIT_BYTES = 1000
DECLARED: Scope = {
    "client": None,
    "headers": [(b"content-length", b"100000")],
    "path_params": {"token": "secret"},
}
CHUNKED: Scope = {**DECLARED, "headers": [(b"transfer-encoding", b"chunked")]}


class Store:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.entries: list[BatchEntry] = []

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        self.entries += batch
        return "redis"

    async def close(self) -> None:
        """Do nothing."""


def refuse(scope: Scope, in_flight: InFlight) -> tuple[list[BatchEntry], int]:
    """Refuse a body of 100,000 bytes; return what was stored, and the most bytes held while it was discarded."""
    store, held_bytes = Store(), 0
    commit = GroupCommit(store)
    receiver = CallbackReceiver(
        "status",
        addresses=AddressRules(allowed=ANY_NETWORK, trusted=()),
        tokens=Tokens([Token("gw", "secret")]),
        commit=commit,
        in_flight=in_flight,
        max_body_bytes=LIMIT_BYTES,
        body_timeout_seconds=30,
    )

    async def receive() -> Message:
        nonlocal held_bytes
        held_bytes = max(held_bytes, in_flight.held_bytes)
        return {"type": "http.request", "body": b" " * 100_000, "more_body": False}

    async def handle() -> None:
        try:
            with pytest.raises(Refused, match="too-large") as refused:
                await receiver.handle(scope, receive)
            if refused.value.answer.keep_copy is not None:
                await refused.value.answer.keep_copy(receive)
        finally:
            commit.close()

    async def scenario() -> None:
        await asyncio.gather(handle(), commit.run())

    asyncio.run(scenario())
    assert in_flight.held_bytes == 0
    return store.entries, held_bytes


@pytest.mark.parametrize("scope", [DECLARED, CHUNKED])
def test_the_first_bytes_are_kept(scope: Scope) -> None:
    [entry], _ = refuse(scope, InFlight(1 << 20))
    assert isinstance(entry, Quarantined)
    assert (entry.body, entry.refused) == (b" " * COPY_BYTES, 413)


def test_a_copy_counts_as_held_from_before_its_first_byte() -> None:
    _, held_bytes = refuse(DECLARED, InFlight(1 << 20))
    assert held_bytes == HELD_COPY_BYTES


@pytest.mark.parametrize("scope", [DECLARED, CHUNKED])
def test_without_room_the_answer_is_the_same_and_no_copy_is_kept(scope: Scope) -> None:
    entries, held_bytes = refuse(scope, InFlight(REQUEST_BYTES + LIMIT_BYTES))
    assert entries == []
    assert held_bytes <= REQUEST_BYTES
