"""What the service would make of one body: the web process's answer, then each event, without keeping anything.

The body goes the way of a real one, through the receiver of the web process and the reader of the expand worker. Only
the store is another: it ends in memory.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from starlette.types import Message, Scope

from callbacks.cli.quiet_log import quiet_log
from ingest.answers import Answer, Refused
from ingest.body import InFlight
from ingest.callbacks import CallbackReceiver
from ingest.group_commit import BatchEntry, Destination, GroupCommit
from ingest.sources import AddressRules, Tokens
from shared import events, field_readers
from shared.batches import Accepted, Quarantined
from shared.errors import UnexpectedShape
from shared.events import Event
from shared.schema import Kind, Record, ReplyCallback
from shared.setting_values import ANY_NETWORK, Token
from workers.expand.record_reader import RecordReader
from workers.runtime.settlement import NewFailure

SOURCE: Final = "check"
# A receiver limits what it holds; this one holds one body, and what it is when decompressed.
_IN_FLIGHT_BYTES: Final = 1 << 40
_BODY_TIMEOUT_SECONDS: Final = 60.0


class BodyAnswer(Struct, frozen=True):
    """The web process's answer to a body, and what it would keep."""

    status: int
    document: dict[str, Any]
    entries: Sequence[BatchEntry]

    @property
    def kept(self) -> Literal["accepted", "quarantined"] | None:
        """How the body would be kept; None: not at all."""
        if not self.entries:
            return None
        return "accepted" if any(isinstance(entry, Accepted) for entry in self.entries) else "quarantined"


class ReadRecord(Struct, frozen=True):
    """Records in their order, the first one as `number`: one event, or why `records` of them are quarantined.

    `unreadable` has the values, as in `raw`, of the fields that could not be read. `repeats` is the number of the
    record that is the same event.
    """

    number: int
    event: Event | None = None
    unreadable: Mapping[str, Any] = {}
    repeats: int | None = None
    error: str = ""
    records: int = 1

    @property
    def is_well(self) -> bool:
        """Whether all of it was read."""
        return self.event is not None and not self.unreadable


def answer(
    body: bytes, headers: Sequence[tuple[bytes, bytes]], kind: Kind | None, *, max_body_bytes: int
) -> BodyAnswer:
    """Return the answer to `body`, posted to the URL of `kind` (None: the single URL) with these headers."""
    with quiet_log():
        return asyncio.run(receive(body, headers, kind, max_body_bytes=max_body_bytes))


async def receive(
    body: bytes, headers: Sequence[tuple[bytes, bytes]], kind: Kind | None, *, max_body_bytes: int
) -> BodyAnswer:
    """Do as `answer`, without the log kept off the terminal."""
    store = _MemoryStore()
    commit = GroupCommit(store)
    receiver = CallbackReceiver(
        kind,
        addresses=AddressRules(allowed=ANY_NETWORK, trusted=()),
        tokens=Tokens([Token(SOURCE, SOURCE)]),
        commit=commit,
        in_flight=InFlight(_IN_FLIGHT_BYTES),
        max_body_bytes=max_body_bytes,
        body_timeout_seconds=_BODY_TIMEOUT_SECONDS,
    )
    scope: Scope = {"client": None, "headers": headers, "path_params": {"token": SOURCE}}

    async def receive_body() -> Message:
        return {"type": "http.request", "body": body}

    async def handle() -> Answer:
        try:
            return await receiver.handle(scope, receive_body)
        except Refused as exc:
            if exc.answer.keep_copy is not None:
                await exc.answer.keep_copy(receive_body)
            return exc.answer
        finally:
            commit.close()

    answered, _ = await asyncio.gather(handle(), commit.run())
    return BodyAnswer(answered.status, msgspec.json.decode(answered.body["body"]), store.entries)


def read_records(answered: BodyAnswer) -> Iterator[ReadRecord]:
    """Yield the records of an accepted body, as an expand worker reads them."""
    number, numbers = 1, dict[str, int]()
    for entry in answered.entries if answered.kept == "accepted" else ():
        if isinstance(entry, Quarantined):
            yield ReadRecord(number, error=entry.error, records=entry.records)
            number += entry.records
            continue
        with quiet_log():
            items = list(RecordReader(()).read_items(entry))
        for item in items:
            if isinstance(item, NewFailure):
                yield ReadRecord(number, error=str(item.fields["error"]), records=item.records)
                number += item.records
                continue
            for event in events.decode_each(item.events):
                first = numbers.setdefault(event.id, number)
                yield ReadRecord(number, event, _find_unreadable(event), repeats=first if first != number else None)
                number += 1


def _find_unreadable(event: Event) -> dict[str, Any]:
    struct = Record if event.kind == "report" else ReplyCallback
    try:
        _, keys = field_readers.read(struct, msgspec.json.encode(event.raw), "$")
    except UnexpectedShape:
        return {}
    found = {key: event.raw[key] for key in keys}
    if event.kind == "report":
        # In a report's `raw` they are only if they could not be read next to `data`.
        for key in ("api_job_id", "client_job_id"):
            if getattr(event, key) is None and event.raw.get(key) not in (None, ""):
                found[key] = event.raw[key]
    return found


class _MemoryStore:
    """Where the group commit ends here."""

    def __init__(self) -> None:
        self.entries: list[Accepted | Quarantined] = []

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        self.entries += batch
        return "redis"

    async def close(self) -> None:
        """Close nothing."""
