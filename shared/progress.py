"""How much of a job is settled: a job's field `progress`, as text that changes whenever anything is settled.

    17            the first 17 items
    17,19-40,42   the first 17, then those at the positions 19 to 40, and 42, counted from 0

Items end in any order if several are worked on at once; what is done does not wait for what is slow.
"""

from collections.abc import Collection, Iterator
from typing import Final

NOTHING: Final = "0"


def parse(text: str) -> frozenset[int]:
    """Return the positions of the settled items."""
    first, *others = text.split(",")
    positions = set(range(int(first)))
    for other in others:
        begin, _, end = other.partition("-")
        positions.update(range(int(begin), int(end or begin) + 1))
    return frozenset(positions)


def to_text(positions: Collection[int]) -> str:
    """Return the text for these positions."""
    ordered = sorted(positions)
    if not ordered or ordered[-1] == len(ordered) - 1:  # all up to one of them, as nearly always
        return str(len(ordered))
    return ",".join(_ranges(ordered))


def count(text: str) -> int:
    """Return how many items are settled, without listing them."""
    first, *others = text.split(",")
    total = int(first)
    for other in others:
        begin, _, end = other.partition("-")
        total += int(end or begin) - int(begin) + 1
    return total


def _ranges(positions: list[int]) -> Iterator[str]:
    first = 0
    while first < len(positions) and positions[first] == first:
        first += 1
    yield str(first)
    begin = first
    for position in range(first, len(positions)):
        if position + 1 == len(positions) or positions[position + 1] != positions[position] + 1:
            yield str(positions[begin]) if begin == position else f"{positions[begin]}-{positions[position]}"
            begin = position + 1
