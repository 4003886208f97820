"""The dead letters of a handler by their error: errors that differ only in numbers and ids are one group.

At most MAX_SCANNED dead letters are read, the newest. A group's error is masked as in the log.
"""

import re
from typing import Final

import redis
from msgspec import Struct

from workers.deliver.error_text import masked_line
from workers.failures.cursor import FailureFilter, IndexReader
from workers.failures.failure import DeadLetterRow
from workers.failures.failure_list import dead_letters_of
from workers.failures.iteration import MATCHES_ALL

# About forty round trips.
MAX_SCANNED: Final = 20_000
_CHARACTERS: Final = 160
# What differs from one event to the next: numbers, ids in hexadecimal, what is masked.
_VARYING: Final = re.compile(r"\b(?=[0-9a-fA-F*-]*\d)[0-9a-fA-F*]{8,}(?:-[0-9a-fA-F*]{4,})*|[\d*]+")
# A shorter text may be in any error.
_MIN_FRAGMENT: Final = 4


class ErrorGroup(Struct, frozen=True, kw_only=True):
    """Dead letters with the same error, "#" for what differs; the times of the oldest and the newest, and its id.

    `fragment` is a text that the errors contain, by which a list can be filtered; "" if there is none.
    """

    error: str
    dead: int
    oldest_at: str
    newest_at: str
    newest_id: str
    fragment: str


class ErrorGroups(Struct, frozen=True):
    """The groups, the largest first, of the newest `scanned` dead letters; `is_whole`: there are no others."""

    groups: tuple[ErrorGroup, ...]
    scanned: int
    is_whole: bool


def read_groups(connection: redis.Redis, handler: str, wanted: FailureFilter = MATCHES_ALL) -> ErrorGroups:
    """Return a handler's dead letters that match by their error. Raise redis.RedisError."""
    page = IndexReader(connection).read_rows(
        dead_letters_of(handler), wanted, limit=MAX_SCANNED, max_scanned=MAX_SCANNED
    )
    newest: dict[str, DeadLetterRow] = {}
    oldest_at: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for row in page.items:
        if isinstance(row, DeadLetterRow):
            error = general_error(row.error)
            newest.setdefault(error, row)
            oldest_at[error] = row.died_at
            sizes[error] = sizes.get(error, 0) + 1
    groups = (
        ErrorGroup(
            error=error,
            dead=size,
            oldest_at=oldest_at[error],
            newest_at=newest[error].died_at,
            newest_id=newest[error].id,
            fragment=_fragment(error, newest[error].error),
        )
        for error, size in sizes.items()
    )
    largest_first = sorted(groups, key=lambda group: (-group.dead, group.error))
    return ErrorGroups(tuple(largest_first), page.scanned, page.next_cursor is None)


def general_error(error: str) -> str:
    """Return an error in one line, masked, with "#" in place of numbers and ids."""
    return _VARYING.sub("#", masked_line(error))[:_CHARACTERS]


def _fragment(general: str, error: str) -> str:
    """Return the longest text between what differs that the error contains as it is."""
    found = [part.strip() for part in re.split(r"[#…]+", general)]
    contained = (part for part in found if len(part) >= _MIN_FRAGMENT and part.casefold() in error.casefold())
    return max(contained, key=len, default="")
