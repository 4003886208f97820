"""No body makes the reader crash, hang or say something else the second time: mutated payloads of the gateway.

`make fuzz` feeds it a million; inside `make test` some thousands. The seed is printed with each failure.
"""

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from shared import events, wire
from shared.errors import NotJson, UnexpectedShape

_PAYLOADS: Final = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "payloads").glob("*.json"))]
_PIECES: Final = (
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e999", b"9" * 30, b'"\\ud83d"', b'"\\u0000"', b"\xff",
    b"\xef\xbb\xbf", b"[" * 120, b"]" * 120, b'"data":', b'"status":', b'"message_id":', b",", b":", b"\\",
    b'"', b"NaN",
)  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """Return a payload with a few of its bytes cut, doubled, swapped or replaced."""
    body = bytearray(chance.choice(_PAYLOADS))
    for _ in range(chance.randint(1, 4)):
        begin = chance.randrange(len(body) + 1)
        end = min(len(body), begin + chance.choice((0, 1, 2, 8, 64)))
        kind = chance.randrange(4)
        if kind == 0:
            body[begin:end] = chance.choice(_PIECES)
        elif kind == 1:
            del body[begin:end]
        elif kind == 2:
            body[begin:begin] = body[begin:end]
        elif body and begin < len(body):
            body[begin] = chance.randrange(256)
    return bytes(body)


def bodies(number: int, chance: random.Random) -> Iterator[bytes]:
    for _ in range(number):
        yield mutated(chance)


def whole(callback: wire.Callback) -> tuple[Any, ...]:
    return callback.envelope, list(callback.records), callback.extra, callback.faults, callback.unreadable


def test_every_body_is_read_or_refused_and_what_is_read_survives_its_way() -> None:
    number, seed = int(os.environ.get("FUZZ_BODIES", "20000")), int(os.environ.get("CHAOS_SEED", "1"))
    outcomes = {"read": 0, "not documented": 0, "not JSON": 0}
    for body in bodies(number, random.Random(seed)):
        try:
            shape = wire.check(body, random.Random(len(body)).choice(("status", "reply", None)))
            callback = wire.read(body, shape.kind)
        except NotJson:
            outcomes["not JSON"] += 1
            continue
        except UnexpectedShape:
            outcomes["not documented"] += 1
            continue
        outcomes["read"] += 1
        if callback.kind == "status":
            assert whole(callback) == whole(wire._read_in_parts(body, "status")), body
        made = list(events.from_callback(callback, source="fuzz", received_at=datetime(2026, 1, 1, tzinfo=UTC)))
        assert len(made) + len(callback.faults) == shape.records, body
        encoded = b",".join(events.encode(event) for event in made)
        assert events.decode(b"[%s]" % encoded) == made, body
        assert all(len(event.to_json().splitlines()) == 1 for event in made), body
        if callback.faults:
            with pytest.raises(UnexpectedShape):
                wire.read(callback.unreadable, None)
    assert all(outcomes.values()), outcomes
