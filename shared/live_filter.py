"""The filter of live events, on the operators' pages and in the terminal."""

from msgspec import Struct

from shared import phone_numbers
from shared.events import Event


class LiveFilter(Struct, frozen=True, kw_only=True):
    """Which events match; an empty field matches all. Upper and lower case are equal.

    A reply has no status, so none matches if a status is given. `number` is the person's: a report's recipient, a
    reply's sender. It may be a part of the number, and is compared by its digits.
    """

    kinds: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    number: str = ""

    def matches(self, event: Event) -> bool:
        """Return whether `event` matches."""
        status = event.status if event.kind == "report" else None
        person = event.recipient if event.kind == "report" else event.sender
        return (
            (not self.kinds or event.kind in self.kinds)
            and _is_among(status, self.statuses)
            and _is_among(event.channel, self.channels)
            and (not self.sources or event.source in self.sources)
            and (not self.number or phone_numbers.contains(person or "", self.number))
        )


def _is_among(word: str | None, words: frozenset[str]) -> bool:
    return not words or (word is not None and word.upper() in {one.upper() for one in words})
