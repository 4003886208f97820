"""Looking for a message on the shelves: for an id or a number in the events and bodies that were set aside.

Those are not indexed by it, so they are read: a bounded part at a time, newest first, one shelf after the other, with
a place at which to go on. Nothing is changed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, Self

import redis
from msgspec import Struct

from workers.failures import store
from workers.failures.cursor import Place, Row, Walk
from workers.failures.failure_list import Shelf, every

# For one page: some 100 ms of reading.
MOST_ENTRIES: Final = 1000
MOST_BYTES: Final = 8 << 20
_MOST_HITS: Final = 50
_A_READ: Final = 100


class Further(Struct, frozen=True):
    """Where to go on: on which shelf, by its name, and after which entry, None for its newest on."""

    shelf: str
    place: Place | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """Read what `text` gave. Raises ValueError."""
        name, _, place = text.partition(" ")
        return cls(name, Place.of(place) if place else None)

    @property
    def text(self) -> str:
        """It, as a form or a URL carries it."""
        return f"{self.shelf} {self.place.text}" if self.place else self.shelf


class Hit(Struct, frozen=True):
    """An entry that names what is sought, and its shelf."""

    shelf: Shelf
    row: Row


class Sought(Struct, frozen=True):
    """What was found, how many entries were looked at, and where to go on; None at the end."""

    hits: tuple[Hit, ...]
    looked: int
    further: Further | None


def seek(connection: redis.Redis, wanted: str, *, start: Further | None = None) -> Sought:
    """Look for entries that name an id or a number, as a whole. Raises redis.RedisError."""
    pattern = _pattern(wanted)
    # The quarantine last: its bodies are the largest.
    ordered = sorted(every(connection), key=lambda shelf: (shelf.handler is None, shelf.name))
    names = [shelf.name for shelf in ordered]
    first = names.index(start.shelf) if start is not None and start.shelf in names else 0
    place = start.place if start is not None and start.shelf in names else None
    hits: list[Hit] = []
    looked = held = 0
    for shelf in ordered[first:]:
        for at, size_bytes in _entries(connection, shelf, place):
            if looked and (looked == MOST_ENTRIES or held + size_bytes > MOST_BYTES or len(hits) == _MOST_HITS):
                return Sought(tuple(hits), looked, Further(shelf.name, place))
            looked, held, place = looked + 1, held + size_bytes, at
            if _names(connection, shelf, at.entry_id, pattern):
                hits += (Hit(shelf, row) for row in Walk(connection).named(shelf, [at.entry_id]))
        place = None
    return Sought(tuple(hits), looked, None)


def _entries(connection: redis.Redis, shelf: Shelf, place: Place | None) -> Iterator[tuple[Place, int]]:
    walk = Walk(connection)
    while True:
        places = walk.places(shelf.index, after=place, most=_A_READ)
        sizes = store.read(connection, shelf, [one.entry_id for one in places], ("bytes",))
        for one, (_, (size,)) in zip(places, sizes, strict=True):
            yield one, int(size or 0)
        if len(places) < _A_READ:
            return
        place = places[-1]


def _names(connection: Any, shelf: Shelf, entry_id: str, pattern: re.Pattern[bytes]) -> bool:
    ((_, (content,)),) = store.read(connection, shelf, [entry_id], ("body" if shelf.handler is None else "event",))
    return content is not None and pattern.search(content) is not None


def _pattern(wanted: str) -> re.Pattern[bytes]:
    """Give what matches it as it is written in UTF-8, and in JSON with everything else than ASCII escaped."""
    ways = {wanted.encode(errors="replace"), json.dumps(wanted)[1:-1].encode()}
    return re.compile(rb"(?<![0-9A-Za-z])(?:%s)(?![0-9A-Za-z])" % b"|".join(map(re.escape, sorted(ways))))
