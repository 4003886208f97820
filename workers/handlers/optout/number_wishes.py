"""What is kept of a number: whether it opted out, since when, and who says so.

Of two wishes of a number the later one counts, in whatever order they come and however often. So a reply that arrives
late undoes nothing that was said after it. Of two at the same time, the one that opts out counts.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from callbacks import ReplyEvent, opt_outs
from workers.handlers.sql import texts

_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class NumberWish(Struct, frozen=True, kw_only=True):
    """The latest wish of a number. `changed_at` is when it was expressed (UTC); None if nobody knows.

    A forgotten number is None. `source` is that of the reply, or what the import named; `recipient` is whom the reply
    was sent to.
    """

    number: str | None
    opted_out: bool
    changed_at: datetime | None
    source: str
    channel: str | None = None
    recipient: str | None = None
    keyword: str | None = None
    event_id: str | None = None

    @property
    def number_key(self) -> str:
        """What all spellings of the number have in common."""
        return texts.number_key(self.number or "") or ""

    @property
    def wish_rank(self) -> str:
        """A text that sorts by time, then by caution, then by event id; what has no time sorts before all else."""
        ms = 0 if self.changed_at is None else (self.changed_at - _YEAR_1) // _MILLISECOND + 1
        return f"{ms:013x}:{int(self.opted_out)}:{self.event_id or ''}"


def from_reply(event: ReplyEvent) -> NumberWish | None:
    """Return the wish that a reply expresses; None if it expresses none, or has no sender."""
    wish = opt_outs.wish(event.text)
    if wish is None or not event.sender:
        return None
    return NumberWish(
        number=texts.storable_key(event.sender),
        opted_out=wish == "out",
        # Nobody can have said it after it was received. A time in the future would outlast every later wish.
        changed_at=min(event.occurred_at or event.received_at, event.received_at),
        source=texts.storable_key(event.source),
        channel=texts.optional_key(event.channel),
        recipient=texts.optional_key(event.recipient),
        keyword=texts.optional_key(opt_outs.normalize(event.text or "")),
        event_id=texts.storable_key(event.id),
    )
