"""What was set aside, the quarantine and the dead letters: listed, shown, let in again, dropped.

Letting in is the normal way: a quarantined callback becomes a batch that is expanded and deduped like any other, a
dead letter a delivery to its own handler, and to no other. Each step is atomic and keeps the audit's sum.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias

import orjson
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, events, keys, queues, wire
from shared.errors import CallbacksError, NotDocumented, NotJson
from shared.keys import CountedKind

Argument: TypeAlias = str | bytes | int

_ENTRIES_A_READ: Final = 500


class NotThere(CallbacksError):
    """There is no such entry (any more)."""


class StillUnreadable(CallbacksError):
    """The callback cannot be read by this release either; it stays in the quarantine."""


class QuarantineEntry(Struct, frozen=True, kw_only=True):
    """A quarantined callback. `body` is as it was received, `received_at` RFC 3339 in UTC."""

    id: str
    received_at: str
    kind: str
    source: str
    records: int
    error: str
    body: bytes


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An event that a handler gave up on, with what it raised last and how often it was tried."""

    id: str
    handler: str
    died_at: str
    attempts: int
    error: str
    traceback: str
    event: events.Event


class SetAside:
    """The quarantine and the dead letters over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        script = (files("workers") / "lua" / "take_out.lua").read_text()
        self._take_out = connection.register_script(script)

    def quarantine_size(self) -> int:
        """Count the quarantined callbacks."""
        return int(self._connection.zcard(keys.QUARANTINE))

    def dead_sizes(self) -> dict[str, int]:
        """Count the dead letters of every handler that has any."""
        sizes = {name: int(self._connection.zcard(keys.dead(name))) for name in self.handlers()}
        return {name: size for name, size in sizes.items() if size}

    def handlers(self) -> list[str]:
        """Give the names of all handlers that ever had an event."""
        counters = map(as_text, self._connection.hkeys(keys.COUNTS))
        return sorted({name.partition(":")[2] for name in counters if ":" in name})

    def quarantine(self, *, first: int = 0, most: int | None = None) -> Iterator[QuarantineEntry]:
        """Give the quarantined callbacks, oldest first, from the place `first` on; read as they are asked for."""
        for entry_id, fields in self._entries(keys.QUARANTINE, keys.quarantined, first, most):
            yield _quarantine_entry(entry_id, fields)

    def dead(self, handler: str, *, first: int = 0, most: int | None = None) -> Iterator[DeadLetter]:
        """Give a handler's dead letters, oldest first, from the place `first` on; read as they are asked for."""
        for event_id, fields in self._entries(
            keys.dead(handler), lambda event_id: keys.dead_letter(handler, event_id), first, most
        ):
            yield _dead_letter(handler, event_id, fields)

    def quarantine_ids(self) -> list[str]:
        """Give the ids of all that is in the quarantine now, oldest first."""
        return self._ids(keys.QUARANTINE, 0, -1)

    def dead_ids(self, handler: str) -> list[str]:
        """Give the ids of all dead letters of a handler now, oldest first."""
        return self._ids(keys.dead(handler), 0, -1)

    def quarantined(self, entry_id: str) -> QuarantineEntry:
        """Give one entry. Raises NotThere."""
        return _quarantine_entry(entry_id, self._fields(keys.quarantined(entry_id)))

    def dead_letter(self, handler: str, event_id: str) -> DeadLetter:
        """Give one dead letter. Raises NotThere."""
        return _dead_letter(handler, event_id, self._fields(keys.dead_letter(handler, event_id)))

    def let_in(self, entry: QuarantineEntry) -> None:
        """Put a quarantined callback on the way of every callback. Raises NotThere and StillUnreadable."""
        shape = _shape(entry)
        kept = batches.Kept(shape.kind, entry.source, _ms(entry.received_at), shape.records, wire.text_of(entry.body))
        changes: Counter[str] = Counter()
        # It was received as what it seemed to be then, and is now what it is.
        changes[keys.count(_counted(entry.kind), "received")] -= entry.records
        changes[keys.count(_counted(entry.kind), "quarantined")] -= entry.records
        changes[keys.count(batches.counted(shape.kind), "received")] += shape.records
        self._take(
            keys.quarantined(entry.id), keys.QUARANTINE, entry.id, changes, (queues.EXPAND, batches.job_of([kept]))
        )

    def drop_quarantined(self, entry: QuarantineEntry) -> None:
        """Drop a quarantined callback for good; it is counted as dropped. Raises NotThere."""
        kind = _counted(entry.kind)
        changes = {keys.count(kind, "quarantined"): -entry.records, keys.count(kind, "dropped"): entry.records}
        self._take(keys.quarantined(entry.id), keys.QUARANTINE, entry.id, changes)

    def deliver_again(self, letter: DeadLetter) -> None:
        """Deliver a dead letter to its handler, with all its attempts before it. Raises NotThere."""
        queue = queues.delivery(letter.handler)
        fields = queues.job_fields(
            queue=queue, function=queues.DELIVER_JOB, description=f"1 event for {letter.handler}, again", items=1
        ) | {
            "data": queues.call(
                queues.DELIVER_JOB,
                (
                    queues.PAYLOAD_VERSION,
                    letter.handler,
                    queues.FIRST_ATTEMPT,
                    [orjson.Fragment(events.encode(letter.event))],
                ),
            )
        }
        changes = {keys.handler_count(letter.handler, letter.event.kind, "dead"): -1}
        key = keys.dead_letter(letter.handler, letter.id)
        self._take(key, keys.dead(letter.handler), letter.id, changes, (queue, fields))

    def drop_dead(self, letter: DeadLetter) -> None:
        """Drop a dead letter for good; it is counted as dropped. Raises NotThere."""
        changes = {
            keys.handler_count(letter.handler, letter.event.kind, "dead"): -1,
            keys.handler_count(letter.handler, letter.event.kind, "dropped"): 1,
        }
        self._take(keys.dead_letter(letter.handler, letter.id), keys.dead(letter.handler), letter.id, changes)

    def _take(
        self,
        key: str,
        index: str,
        entry_id: str,
        changes: Mapping[str, int],
        job: tuple[str, Mapping[str, Argument]] | None = None,
    ) -> None:
        arguments: list[Argument] = [entry_id, len(changes)]
        for counter, change in changes.items():
            arguments += (counter, change)
        if job is not None:
            queue, fields = job
            job_id = queues.new_id()
            arguments += (keys.rq_queue(queue), keys.job(job_id), job_id)
            for name, value in fields.items():
                arguments += (name, value)
        if not self._take_out(keys=[key, index, keys.COUNTS, keys.RQ_QUEUES], args=arguments):
            raise NotThere

    def _entries(
        self, index: str, key_of: Any, first: int, most: int | None
    ) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        given = 0
        while most is None or given < most:
            number = _ENTRIES_A_READ if most is None else min(_ENTRIES_A_READ, most - given)
            ids = self._ids(index, first, first + number - 1)
            if not ids:
                return
            with self._connection.pipeline(transaction=False) as pipe:
                for entry_id in ids:
                    pipe.hgetall(key_of(entry_id))
                for entry_id, fields in zip(ids, pipe.execute(), strict=True):
                    if fields:  # else it has expired, and leaves the index with the next one that comes in
                        yield entry_id, fields
            first, given = first + len(ids), given + len(ids)

    def _ids(self, index: str, first: int, last: int) -> list[str]:
        members: Any = self._connection.zrange(index, first, last)
        return [as_text(member) for member in members]

    def _fields(self, key: str) -> dict[bytes, bytes]:
        fields: Any = self._connection.hgetall(key)
        if not fields:
            raise NotThere
        return dict(fields)


def _shape(entry: QuarantineEntry) -> wire.Shape:
    """Tell what the body is now: of the kind whose URL it came to, or, if that cannot be, of the other."""
    kinds: tuple[Literal["status", "reply"] | None, ...] = (None,)
    if entry.kind == "status":
        kinds = ("status", None)
    elif entry.kind == "reply":
        kinds = ("reply", None)
    why: CallbacksError = StillUnreadable()
    for kind in kinds:
        try:
            shape = wire.check(entry.body, kind)
        except (NotJson, NotDocumented) as exc:
            why = exc
        else:
            if len(shape.faults) < shape.records:
                return shape
    raise StillUnreadable(f"{entry.id}: {why}")


def _counted(kind: str) -> CountedKind:
    return "report" if kind == "status" else "reply" if kind == "reply" else "unknown"


def _ms(rfc3339: str) -> int:
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)


def _quarantine_entry(entry_id: str, fields: Mapping[bytes, bytes]) -> QuarantineEntry:
    return QuarantineEntry(
        id=entry_id,
        received_at=events.rfc3339(events.time_of(int(fields[b"received_ms"]))),
        kind=fields[b"kind"].decode(),
        source=fields[b"source"].decode(),
        records=int(fields[b"records"]),
        error=fields[b"error"].decode(errors="replace"),
        body=fields[b"body"],
    )


def _dead_letter(handler: str, event_id: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        id=event_id,
        handler=handler,
        died_at=events.rfc3339(events.time_of(int(fields[b"died_ms"]))),
        attempts=int(fields[b"attempts"]),
        error=fields[b"error"].decode(errors="replace"),
        traceback=fields[b"traceback"].decode(errors="replace"),
        event=events.decode(b"[%s]" % fields[b"event"])[0],
    )
