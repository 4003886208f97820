"""Callbacks and events that wait in Redis: each job that mentions a number is rewritten without it, in one step.

A job is only changed while no run holds it. What runs is found again: as a settled job, which is gone, or as a retry or
a dead letter. Events that several handlers want are stored once (portions): a job that is rewritten gets its own copy
of the others, and the shared text goes with the last job that needs it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, events, keys, progress, queue_jobs, queues, sealed_data
from shared.batches import Accepted
from shared.counted import counted
from shared.number_search import NumberSearch
from shared.queue_jobs import StoredJob
from workers.personal_data import record_bodies
from workers.personal_data.not_read import NotRead
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable
from workers.runtime import completion_journal, scripts

_UNTIL: Final = "until it is delivered or has become a dead letter"
_JOBS_PER_READ: Final = 50
_READ_BYTES: Final = 4 << 20
_FIELDS: Final = ("progress", "finished", "portions")


class _Job(Struct, frozen=True):
    """A job that mentions a number. `holder` is None while a run holds it."""

    queue: str
    job_id: str
    holder: str | None
    stored: StoredJob

    @property
    def handler(self) -> str | None:
        return None if self.queue == queues.EXPAND else self.queue.removeprefix(queues.delivery_queue(""))

    def text(self, name: str) -> str:
        return as_text(self.stored.values[_FIELDS.index(name)] or b"")


class _Rewritten(Struct, frozen=True):
    """What a job becomes: its new fields, none if nothing of it is left; what is erased, and the counters' changes."""

    fields: dict[str, Any]
    erased: Sequence[str]
    changes: Counter[str]


class WaitingJobs:
    """The jobs of all queues over one connection. Each method raises redis.RedisError."""

    name = "waiting"

    def __init__(self, connection: redis.Redis, search: NumberSearch) -> None:
        self._connection: Any = connection
        self._search = search
        self._script = connection.register_script(
            scripts.load("types", "arguments", "requeue_coalesced", "portions", "personal_data/rewrite_job")
        )

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Rewrite each job that mentions a number, once. What a run holds, or moved meanwhile, is left."""
        found = erased = running = 0
        not_read = NotRead("job")
        for job in self._iterate(not_read):
            try:
                rewritten = _rewrite(job, self._search)
            except (msgspec.MsgspecError, ValueError) as exc:
                not_read.add(exc)
                continue
            records = len(rewritten.erased)
            if dry_run:
                found += records
            elif job.holder is not None and self._write(job, job.holder, rewritten):
                found, erased = found + records, erased + records
            else:
                # Of what is settled nothing is to be erased, but the job has it until its run ends.
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
        """Yield each record and event that mentions a number. Raise StoreUnreadable, after the last job."""
        not_read = NotRead("job")
        for job in self._iterate(not_read):
            where = f"queue {job.queue}, {'running' if job.holder is None else 'waiting'}"
            try:
                texts = _rewrite(job, self._search).erased
            except (msgspec.MsgspecError, ValueError) as exc:
                not_read.add(exc)
                continue
            for text in texts:
                yield FoundItem(where=where, until=_UNTIL, content=_readable(text, is_event=job.handler is not None))
        if not_read:
            raise StoreUnreadable(not_read.why)

    def _iterate(self, not_read: NotRead) -> Iterator[_Job]:
        """Yield the jobs that mention a number, in the direction in which events move: expand first.

        What cannot be opened may mention it, and is counted in `not_read`.
        """
        handlers = keys.handler_names(map(as_text, self._connection.hkeys(keys.COUNTS)))
        for queue in (queues.EXPAND, *map(queues.delivery_queue, handlers)):
            jobs = queue_jobs.read_jobs(self._connection, queue)
            holders: dict[str, str | None] = {}
            at_rest = [*jobs.waiting, *jobs.scheduled_at, *jobs.failed]
            for holder, others in zip(at_rest, queue_jobs.read_coalesced(self._connection, at_rest), strict=True):
                holders |= dict.fromkeys((holder, *others), holder)
            held = queue_jobs.with_coalesced(self._connection, [*jobs.claimed, *jobs.running])
            holders |= dict.fromkeys(held)
            ids = list(holders)
            while ids:
                some = queue_jobs.limit_by_bytes(self._connection, ids[:_JOBS_PER_READ], _READ_BYTES) or ids[:1]
                ids = ids[len(some) :]
                stored = queue_jobs.read_stored(self._connection, some, *_FIELDS)
                for job_id, one in zip(some, stored, strict=True):
                    try:
                        is_mentioned = self._mentions(one)
                    except sealed_data.Sealed as exc:
                        not_read.add(exc)
                        continue
                    if is_mentioned:
                        yield _Job(queue, job_id, holders[job_id], one)

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
    erased: list[str] = []
    changes: Counter[str] = Counter()
    for position, event in enumerate(map(bytes, found)):
        if position in settled:
            continue
        if not search.find_in_bytes(event):
            if position in finished:
                kept_finished.add(len(kept))
            kept.append(event)
            continue
        # What a dead worker's handler had finished was delivered.
        outcome: keys.DeliveryOutcome = "delivered" if position in finished else "forgotten"
        changes[keys.handler_counter(handler, _kind(event), outcome)] += 1
        erased.append(event.decode(errors="replace"))
    fields: dict[str, Any] = {}
    if kept:
        fields = {"data": queues.encode_delivery(handler, kept, attempt=attempt), "items": len(kept)}
        if kept_finished:
            fields["finished"] = f"{progress.to_text(kept_finished)};"
    return _Rewritten(fields, erased, changes)


def _rewrite_callbacks(job: _Job, search: NumberSearch) -> _Rewritten:
    _version, callbacks = job.stored.arguments()
    skip = int(job.text("progress") or progress.NOTHING)
    kept: list[Accepted] = []
    erased: list[str] = []
    changes: Counter[str] = Counter()
    done = 0
    for raw in callbacks:
        accepted = batches.decode_callback(raw)
        settled, skip = min(skip, accepted.records), max(0, skip - accepted.records)
        if settled == accepted.records:
            continue
        if not search.find_in(accepted.body):
            kept.append(accepted)
            done += settled
            continue
        parts = record_bodies.take_apart(accepted, search, skip=settled)
        changes[keys.counter(batches.counted_kind(accepted.kind), "forgotten")] += len(parts.erased)
        erased += parts.erased
        if parts.body is not None:
            kept.append(msgspec.structs.replace(accepted, records=parts.kept, body=parts.body))
    if not kept:
        return _Rewritten({}, erased, changes)
    made = batches.expand_job(kept)
    fields = {name: made[name] for name in ("data", "items")} | ({"progress": done} if done else {})
    return _Rewritten(fields, erased, changes)


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
