"""Callbacks without the records that mention a number. The other records of a bundle stay as they were received."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from shared.batches import Accepted
from shared.number_search import NumberSearch
from workers.expand.record_reader import split_records

_encode: Final = msgspec.json.Encoder().encode


class BodyParts(Struct, frozen=True):
    """A body's records that mention a number, how many do not, and what the body is without the first.

    `body` is None if nothing of it may stay: the number is outside its records, or it cannot be taken apart. `settled`
    are the records that mention it and are settled.
    """

    erased: Sequence[str]
    kept: int
    body: str | None
    settled: Sequence[str] = ()


def take_apart(accepted: Accepted, search: NumberSearch, *, skip: int = 0, any_number: bool = False) -> BodyParts:
    """Return the parts of a callback that mentions a number, without its first `skip` records, which are settled.

    `any_number`: it may have other than the counted number of records.
    """
    parts = split_records(accepted, any_number=any_number)
    if parts is None or any(
        search.find_in(f"{name}|{bytes(value).decode()}") for name, value in parts.envelope.items()
    ):
        return BodyParts([accepted.body] * (accepted.records - skip), 0, None, [accepted.body] if skip else [])
    erased: list[str] = []
    settled: list[str] = []
    kept: list[Raw] = []
    for position, record in enumerate(parts.records):
        text = bytes(record).decode()
        if search.find_in(text):
            (settled if position < skip else erased).append(text)
        elif position >= skip:
            kept.append(record)
    value: dict[str, Any] = {**parts.envelope, "data": kept}
    return BodyParts(erased, len(kept), _encode(value).decode() if kept else None, settled)
