"""What was found, erased and left in each store, and what is there now."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct


class StoreUnreadable(Exception):
    """A store, or a part of it, cannot be read now. The message names it and says why, without secrets."""


class StoreResult(Struct, frozen=True, kw_only=True):
    """The result for one store, in its own unit (records, events, lines, rows).

    `left` of `found` could not be erased; `why` says why, and what to do. `unreadable` items more cannot be read, so
    they may mention any number, and it does not help to wait. `failed`: the store could not be searched, or not whole.
    With none of these `why` is a remark. `seconds` is how long it took.
    """

    store: str
    found: int = 0
    erased: int = 0
    left: int = 0
    unreadable: int = 0
    why: str = ""
    failed: bool = False
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all of it was searched, and nothing is left."""
        return not (self.left or self.unreadable or self.failed)


class FoundItem(Struct, frozen=True, kw_only=True):
    """Something that mentions a number: where exactly it is, until when it stays there, and all that it says."""

    where: str
    until: str
    content: Mapping[str, Any]


def parse_line(line: str) -> Mapping[str, Any]:
    """Return the event of a line that a handler wrote, or its text if it is none."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(line, type=dict[str, Any])
    return {"text": line}


def timed(erase: Callable[[], StoreResult]) -> StoreResult:
    """Return the result of an erasure, with the time that it took."""
    began = time.monotonic()
    result = erase()
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - began, 3))


def add_pass(earlier: StoreResult, later: StoreResult) -> StoreResult:
    """Return the sum over two passes of one store: what is left is what the later one left."""
    return StoreResult(
        store=later.store,
        found=earlier.erased + later.found,
        erased=earlier.erased + later.erased,
        left=later.left,
        unreadable=later.unreadable,
        why=later.why,
        failed=later.failed,
        seconds=round(earlier.seconds + later.seconds, 3),
    )
