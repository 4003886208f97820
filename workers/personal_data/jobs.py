"""Callbacks and events that wait in Redis: each job that mentions a number is rewritten without it, in one step.

A job is only changed while no run holds it. What runs is found again: as a settled job, which is gone, or as a retry or
a dead letter. Events that several handlers want are stored once (portions): a job that is rewritten gets its own copy
of the others, and the shared text goes with the last job that needs it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct, field
from rq.utils import as_text

from shared import all_jobs, batches, events, keys, progress, queues
from shared.batches import Accepted
from shared.counted import counted
from shared.number_search import NumberSearch
from shared.queue_jobs import StoredJob
from workers.personal_data import record_bodies
from workers.personal_data.not_read import NotRead
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable
from workers.runtime import completion_journal, scripts

_UNTIL: Final = "until it is delivered or has become a dead letter"
_SETTLED_UNTIL: Final = "until the run of its job has ended"
_FIELDS: Final = ("progress", "finished", "portions")


class _Job(Struct, frozen=True):
    """A job that mentions a number. `holder` is None while a run holds it."""

    queue: str
    job_id: str
    holder: str | None
    stored: StoredJob

    @property
    def handler(self) -> str | None:
        return queues.handler_of(self.queue)

    def text(self, name: str) -> str:
        return as_text(self.stored.values[_FIELDS.index(name)] or b"")


class _Rewritten(Struct):
    """What a job becomes: its new fields, none if nothing of it is left; what is erased, and the counters' changes.

    `settled` mention the number too: their text stays in Redis as long as the job. `holds_number`: something that the
    job holds mentions it, not only the name of a source or of a handler.
    """

    fields: dict[str, Any] = {}
    erased: list[str] = []
    settled: list[str] = []
    changes: Counter[str] = field(default_factory=Counter)
    holds_number: bool = False


class WaitingJobs:
    """The jobs of all queues over one connection. Each method raises redis.RedisError."""

    name = "waiting"

    def __init__(self, connection: redis.Redis, search: NumberSearch) -> None:
        self._connection: Any = connection
        self._search = search
        self._exported: set[str] = set()
        self._script = connection.register_script(
            scripts.load("types", "arguments", "requeue_coalesced", "portions", "personal_data/rewrite_job")
        )

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Rewrite each job that mentions a number, once. What a run holds, or moved meanwhile, is left."""
        found = erased = running = 0
        not_read = NotRead("job")
        for job, rewritten in self._iterate(not_read, known=set()):
            records = len(rewritten.erased)
            if dry_run:
                found += records
            elif job.holder is not None and self._write(job, job.holder, rewritten):
                found, erased = found + records, erased + records
            else:
                # Of what is settled nothing is to be erased, but the job holds it until its run ends.
                found, running = found + max(1, records), running + 1
        waits_for = f"{counted(running, 'running job')}: run this again when they have ended" if running else ""
        return StoreResult(
            store=self.name,
            found=found,
            erased=erased,
            left=0 if dry_run else found - erased,
            unreadable=len(not_read),
            why="; ".join(filter(None, (waits_for, not_read.why))),
        )

    def export(self) -> Iterator[FoundItem]:
        """Yield each record and event that mentions a number; when it is called again, those of other jobs.

        Raise StoreUnreadable, after the last job.
        """
        not_read = NotRead("job")
        for job, rewritten in self._iterate(not_read, known=self._exported):
            where = f"queue {job.queue}, {'running' if job.holder is None else 'waiting'}"
            is_event = job.handler is not None
            for text in rewritten.erased:
                yield FoundItem(where=where, until=_UNTIL, content=_readable(text, is_event=is_event))
            for text in rewritten.settled:
                content = _readable(text, is_event=is_event)
                yield FoundItem(where=f"{where}, settled", until=_SETTLED_UNTIL, content=content)
        if not_read:
            raise StoreUnreadable(not_read.why)

    def _iterate(self, not_read: NotRead, *, known: set[str]) -> Iterator[tuple[_Job, _Rewritten]]:
        """Yield the jobs that hold a number, in the direction in which events move: expand first.

        Those in `known`, which their ids are added to, are left out. What cannot be read is counted in `not_read`.
        """
        yield from self._iterate_queue(queues.EXPAND, not_read, known)
        # Read now, as a handler may have got its first event meanwhile.
        for handler in keys.handler_names(map(as_text, self._connection.hkeys(keys.COUNTS))):
            yield from self._iterate_queue(queues.delivery_queue(handler), not_read, known)

    def _iterate_queue(self, queue: str, not_read: NotRead, known: set[str]) -> Iterator[tuple[_Job, _Rewritten]]:
        for listed in all_jobs.iterate(self._connection, queue, *_FIELDS, known=known):
            job = _Job(queue, listed.job_id, listed.holder, listed.stored)
            try:
                rewritten = _rewrite(job, self._search) if self._mentions(job.stored) else _Rewritten()
            except (msgspec.MsgspecError, ValueError) as exc:
                not_read.add(exc)
                continue
            if rewritten.holds_number:
                yield job, rewritten

    def _mentions(self, stored: StoredJob) -> bool:
        plain = queues.unseal_call(queues.decompress(stored.data or b""))
        texts = (plain, *map(queues.unseal_portion, stored.present))
        return any(map(self._search.find_in_bytes, texts))

    def _write(self, job: _Job, holder: str, rewritten: _Rewritten) -> bool:
        queue = job.queue
        arguments: list[Any] = [keys.job(""), keys.COALESCED_PREFIX, job.job_id, holder]
        arguments += (hashlib.sha1(job.stored.data or b"").hexdigest(), *map(job.text, _FIELDS))  # noqa: S324 # as Lua has it
        words = [word for field in rewritten.fields.items() for word in field]
        arguments += (len(words), *words)
        arguments += (len(rewritten.changes), *(word for change in rewritten.changes.items() for word in change))
        key_names = [keys.rq_queue(queue), keys.rq_scheduled(queue), keys.rq_failed(queue), keys.COUNTS]
        return bool(self._script(keys=key_names, args=arguments))


def _rewrite(job: _Job, search: NumberSearch) -> _Rewritten:
    """Return what a job becomes. Raise msgspec.MsgspecError or ValueError if it cannot be read."""
    if job.handler is None:
        return _rewrite_callbacks(job, search)
    return _rewrite_events(job, job.handler, search)


def _rewrite_events(job: _Job, handler: str, search: NumberSearch) -> _Rewritten:
    _version, _handler, attempt, found = job.stored.arguments()
    settled = progress.parse(job.text("progress") or progress.NOTHING)
    finished = completion_journal.parse_finished(job.text("finished"))
    kept: list[bytes] = []
    kept_finished: set[int] = set()
    rewritten = _Rewritten()
    for position, event in enumerate(map(bytes, found)):
        if search.find_in_bytes(event):
            rewritten.holds_number = True
            text = event.decode(errors="replace")
            if position in settled:
                rewritten.settled.append(text)
                continue
            # What a dead worker's handler had finished was delivered.
            outcome: keys.DeliveryOutcome = "delivered" if position in finished else "forgotten"
            rewritten.changes[keys.handler_counter(handler, _kind(event), outcome)] += 1
            rewritten.erased.append(text)
        elif position not in settled:
            if position in finished:
                kept_finished.add(len(kept))
            kept.append(event)
    if kept:
        rewritten.fields = {"data": queues.encode_delivery(handler, kept, attempt=attempt), "items": len(kept)}
        if kept_finished:
            rewritten.fields["finished"] = f"{progress.to_text(kept_finished)};"
    return rewritten


def _rewrite_callbacks(job: _Job, search: NumberSearch) -> _Rewritten:
    _version, callbacks = job.stored.arguments()
    skip = int(job.text("progress") or progress.NOTHING)
    kept: list[Accepted] = []
    kept_settled = 0
    rewritten = _Rewritten()
    for raw in callbacks:
        accepted = batches.decode_callback(raw)
        settled, skip = min(skip, accepted.records), max(0, skip - accepted.records)
        is_settled = settled == accepted.records
        if not search.find_in(accepted.body):
            if not is_settled:
                kept.append(accepted)
                kept_settled += settled
            continue
        rewritten.holds_number = True
        parts = record_bodies.take_apart(accepted, search, skip=settled)
        rewritten.settled += parts.settled
        if is_settled:
            continue
        rewritten.erased += parts.erased
        rewritten.changes[keys.counter(batches.counted_kind(accepted.kind), "forgotten")] += len(parts.erased)
        if parts.body is not None:
            kept.append(msgspec.structs.replace(accepted, records=parts.kept, body=parts.body))
    if kept:
        made = batches.expand_job(kept)
        rewritten.fields = {name: made[name] for name in ("data", "items")}
        if kept_settled:
            rewritten.fields["progress"] = kept_settled
    return rewritten


def _kind(event: bytes) -> keys.CountedKind:
    try:
        return events.kind_of(msgspec.json.decode(event))
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError):
        return "unknown"


def _readable(text: str, *, is_event: bool) -> dict[str, Any]:
    """Return what a person can read of an event or a record."""
    try:
        if is_event:
            (event,) = events.decode(f"[{text}]")
            return dict(msgspec.json.decode(event.to_json()))
        return {"callback": msgspec.json.decode(text)}
    except msgspec.MsgspecError:
        return {"text": text}
