"""No body makes the service crash, hang or say something else the second time: mutated bodies of the conformance set.

Each goes the way of a real one, through the web process's receiver and the expand worker's reader. `make fuzz` feeds
them a million; inside `make test` some thousands. The number of the body is printed with each failure: together with
CHAOS_SEED it is the same body again.
"""

import asyncio
import os
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest

from callbacks.cli import body_check
from callbacks.cli.body_check import BodyAnswer
from shared import callback_events, events, wire
from shared.batches import Accepted, Quarantined
from shared.errors import NotJson, UnexpectedShape
from tests.chaos.mutations import Posted, mutated, posted
from tests.memory import resident_mib
from workers.expand.record_reader import RecordReader
from workers.runtime.settlement import NewFailure

NUMBER: Final = int(os.environ.get("FUZZ_BODIES", "4000"))
SEED: Final = int(os.environ.get("CHAOS_SEED", "1"))
# Smaller than what some of the bodies are when they are decompressed.
MAX_BODY_BYTES: Final = 64 << 10
# Caches fill within the first fifth; a leak of one body of 500 bytes for each request would be 400 MiB after a million.
GROWTH_MIB: Final = 20


def test_every_body_is_answered_and_all_of_it_becomes_events_or_is_quarantined() -> None:
    chance, answers = random.Random(SEED), Counter[str]()
    before_mib = 0.0
    with asyncio.Runner() as runner:
        for number in range(NUMBER):
            if number == NUMBER // 5:
                before_mib = resident_mib(os.getpid())
            sent = posted(chance)
            headers = [(name.lower().encode(), value.encode()) for name, value in sent.headers.items()]
            answered = runner.run(body_check.receive(sent.body, headers, sent.kind, max_body_bytes=MAX_BODY_BYTES))
            try:
                answers[check(sent, answered)] += 1
            except Exception as exc:
                raise AssertionError(f"body {number} of CHAOS_SEED={SEED}: {sent}") from exc
    print(f"{NUMBER:,} bodies: {dict(answers.most_common())}")  # noqa: T201 # what `make fuzz` reports
    assert {"200 accepted", "200 partly", "200 quarantined", "400", "413", "415"} == set(answers)
    assert resident_mib(os.getpid()) - before_mib < GROWTH_MIB


def check(sent: Posted, answered: BodyAnswer) -> str:
    """Check what becomes of a body, and return its answer."""
    if answered.status != 200:
        assert answered.status in {400, 413, 415}
        assert all(isinstance(entry, Quarantined) for entry in answered.entries)
        return str(answered.status)
    if answered.kept == "quarantined":
        [entry] = answered.entries
        assert isinstance(entry, Quarantined)
        assert entry.error == answered.document["error"]
        # It is no event at any URL: no event is lost.
        with pytest.raises((NotJson, UnexpectedShape)):
            wire.check(entry.body, None)
        return "200 quarantined"
    faults = sum(entry.records for entry in answered.entries if isinstance(entry, Quarantined))
    for entry in answered.entries:
        if isinstance(entry, Accepted):
            faults += read(entry)
    assert answered.document.get("quarantined", 0) == faults
    return "200 partly" if faults else "200 accepted"


def read(accepted: Accepted) -> int:
    """Read an accepted callback as a worker does; return how many of its records are quarantined."""
    records = faults = 0
    for item in RecordReader(()).read_items(accepted):
        if isinstance(item, NewFailure):
            records += item.records
            faults += item.records
            assert "traceback" not in item.fields
            unreadable = item.fields["body"]
            assert isinstance(unreadable, bytes)
            with pytest.raises(UnexpectedShape):
                wire.read(unreadable, None)
            continue
        records += item.records
        for event in events.decode_each(item.events):
            assert events.decode(b"[%b]" % events.encode(event)) == [event]
            assert len(event.to_json().splitlines()) == 1
    assert records == accepted.records
    return faults


def whole(callback: wire.Callback) -> tuple[Any, ...]:
    records = [(msgspec.structs.asdict(record), msgspec.json.decode(raw)) for record, raw in callback.records]
    return callback.envelope, records, callback.extra, callback.faults, callback.unreadable


def test_a_small_body_is_read_at_once_as_it_is_read_in_parts() -> None:
    chance, outcomes = random.Random(SEED), Counter[str]()
    for number in range(NUMBER):
        body = mutated(chance)
        try:
            shape = wire.check(body, chance.choice(("status", "reply", None)))
        except (NotJson, UnexpectedShape) as exc:
            outcomes[type(exc).__name__] += 1
            continue
        outcomes["read"] += 1
        callback = wire.read(body, shape.kind)
        made = list(
            callback_events.from_callback(callback, source="fuzz", received_at=datetime(2026, 1, 1, tzinfo=UTC))
        )
        assert len(made) + len(callback.faults) == shape.records, f"body {number} of CHAOS_SEED={SEED}: {body!r}"
        if callback.kind == "status":
            in_parts = whole(wire._read_in_parts(body, "status"))
            assert whole(callback) == in_parts, f"body {number} of CHAOS_SEED={SEED}: {body!r}"
    assert set(outcomes) == {"read", "NotJson", "UnexpectedShape"}
