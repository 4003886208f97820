"""Replay: send a failure its normal way again.

A quarantined callback becomes a batch that is expanded and deduplicated like any other; a dead letter becomes a
delivery to its own handler, and to no other. Each replay is one atomic step that keeps the audit balanced.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from msgspec import Struct

from shared import batches, body_shapes, events, json_reader, keys, queues, wire
from shared.batches import Accepted
from shared.cooperative import run_to_end
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Kind
from shared.sealed_field import Unopened
from workers.failures import failure
from workers.failures.body_forms import plain_forms
from workers.failures.failure import DeadLetter, QuarantinedCallback, StillUnreadable
from workers.failures.failure_list import Argument, FailureList
from workers.runtime import scripts


class ReplayPlan(Struct, frozen=True):
    """How a failure is replayed: the queue, the fields of the new job, and the changes of counters."""

    queue: str
    job: Mapping[str, Any]
    changes: Mapping[str, int]


class ReplayScript:
    """The script that replays a failure, over one connection."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._script = connection.register_script(scripts.load("types", "enqueue", "failures/replay"))

    def run(self, failure_list: FailureList, plans: Sequence[tuple[str, ReplayPlan]]) -> list[bool]:
        """Replay the failures of these ids; return for each whether it was there. Raise redis.RedisError."""
        with self._connection.pipeline(transaction=False) as pipe:
            for failure_id, plan in plans:
                self._script(keys=_keys(failure_list, failure_id), args=_arguments(failure_id, plan), client=pipe)
            return list(map(bool, pipe.execute()))


def plan_replay(failure_list: FailureList, failure_id: str, values: Sequence[bytes]) -> ReplayPlan:
    """Return how a failure is replayed, from its fields. Raise StillUnreadable."""
    if failure_list.handler is None:
        return _plan_expansion(failure.parse_quarantined_callback(failure_id, values))
    return _plan_delivery(failure.parse_dead_letter(failure_list.handler, failure_id, values))


def _plan_expansion(callback: QuarantinedCallback) -> ReplayPlan:
    if isinstance(callback.body, Unopened):
        raise StillUnreadable(callback.body.decode())
    accepted = _read(callback)
    changes: Counter[str] = Counter()
    # It was counted as the kind that its URL named, and is counted again as the kinds that its body has.
    changes[keys.counter(batches.counted_kind(callback.kind), "received")] -= callback.records
    changes[keys.counter(batches.counted_kind(callback.kind), "quarantined")] -= callback.records
    for each in accepted:
        changes[keys.counter(batches.counted_kind(each.kind), "received")] += each.records
    return ReplayPlan(queues.EXPAND, batches.expand_job(accepted), changes)


def _plan_delivery(letter: DeadLetter) -> ReplayPlan:
    job = queues.delivery_job(
        letter.handler, [events.encode(letter.event)], description=f"1 event for {letter.handler}, replayed"
    )
    changes = {keys.handler_counter(letter.handler, letter.event.kind, "dead"): -1}
    return ReplayPlan(queues.delivery_queue(letter.handler), job, changes)


def _read(callback: QuarantinedCallback) -> list[Accepted]:
    """Return what the body reads as now, with the headers that are known of it. Raise StillUnreadable."""
    error = StillUnreadable()
    for body in plain_forms(callback.body, callback.headers):
        try:
            return _read_plain(callback, body)
        except StillUnreadable as exc:
            error = exc
    raise error


def _read_plain(callback: QuarantinedCallback, body: bytes) -> list[Accepted]:
    """Return what `body` reads as: of the kind of its URL, or of the other kind, or in another shape."""
    why: NotJson | UnexpectedShape = UnexpectedShape()
    kinds: tuple[Kind | None, ...] = (None,) if callback.kind is None else (callback.kind, None)
    for kind in kinds:
        try:
            shape = wire.check(body, kind)
        except (NotJson, UnexpectedShape) as exc:
            why = exc
        else:
            if len(shape.faults) < shape.records:
                return [_accept(callback, body, shape.kind, shape.records)]
    try:
        parts = run_to_end(body_shapes.split(body, None, why))
    except (NotJson, UnexpectedShape) as exc:
        raise StillUnreadable(str(exc)) from exc
    if not parts:
        raise StillUnreadable(str(why))
    # A part that cannot be read is quarantined again by the worker that reads it.
    return [
        _accept(callback, part.body, callback.kind or "status", 1)
        if part.shape is None
        else _accept(callback, part.body, part.shape.kind, part.shape.records)
        for part in parts
    ]


def _accept(callback: QuarantinedCallback, body: bytes, kind: Kind, records: int) -> Accepted:
    return Accepted(kind, callback.source, callback.received_ms, records, json_reader.decode_text(body))


def _keys(failure_list: FailureList, failure_id: str) -> list[str]:
    bytes_key = keys.failures_bytes(failure_list.index)
    return [keys.failure(failure_list.index, failure_id), failure_list.index, bytes_key, keys.COUNTS, keys.RQ_QUEUES]


def _arguments(failure_id: str, plan: ReplayPlan) -> list[Argument]:
    job_id = queues.new_job_id()
    arguments: list[Argument] = [failure_id, len(plan.changes)]
    arguments += itertools.chain.from_iterable(plan.changes.items())
    arguments += (keys.rq_queue(plan.queue), keys.job(job_id), job_id)
    arguments += itertools.chain.from_iterable(plan.job.items())
    return arguments
