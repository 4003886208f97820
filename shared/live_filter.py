"""Which of the live events somebody wants to see: the same on the operators' page and in the terminal."""

import re
from typing import Final

from msgspec import Struct

from shared.events import Event

_NON_DIGITS: Final = re.compile(r"[^0-9]")


class LiveFilter(Struct, frozen=True, kw_only=True):
    """Which events are wanted: of what is empty, all. Words count in any case.

    A reply has no status, so where one is named, none is wanted. `number` is the person's, a report's recipient and a
    reply's sender; it may be given in part, with or without a +, blanks and strokes.
    """

    kinds: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    number: str = ""

    def matches(self, event: Event) -> bool:
        """Tell whether `event` is wanted."""
        status = event.status if event.kind == "report" else None
        person = event.recipient if event.kind == "report" else event.sender
        return (
            (not self.kinds or event.kind in self.kinds)
            and _is_among(status, self.statuses)
            and _is_among(event.channel, self.channels)
            and (not self.sources or event.source in self.sources)
            and (not self.number or _contains(person or "", _NON_DIGITS.sub("", self.number)))
        )


def _is_among(word: str | None, words: frozenset[str]) -> bool:
    return not words or (word is not None and word.upper() in {one.upper() for one in words})


def _contains(number: str, digits: str) -> bool:
    return bool(digits) and digits in _NON_DIGITS.sub("", number)
