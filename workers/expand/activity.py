"""Which received events are new and which are repeats, for `callbacks dev`; see `workers.activity`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import redis
from msgspec import Struct

from shared import events, keys
from workers.activity import Activity, ActivityPublisher, EventLabel, NewEvent, RepeatedEvent, UnreadableRecords
from workers.runtime.settlement import FanOutEvent, NewFailure


class _Mark(Struct, frozen=True):
    """Whether the mark of an event was there, so that it is a repeat, and since when, if that is known."""

    is_seen: bool
    since: datetime | None = None


class ExpandActivity:
    """Reads the marks before a fan-out, and publishes after it what it did; one process at a time may expand."""

    def __init__(self, connection: redis.Redis, handlers: Sequence[str], *, dedupe_seconds: int) -> None:
        self._connection = connection
        self._publisher = ActivityPublisher(connection)
        self._handlers = tuple(handlers)
        self._dedupe_seconds = dedupe_seconds
        self._marks: list[_Mark] = []

    def begin(self, offers: Sequence[FanOutEvent]) -> None:
        """Read the marks of these events. Raise redis.RedisError."""
        with self._connection.pipeline(transaction=False) as pipe:
            for offer in offers:
                pipe.pttl(keys.SEEN_PREFIX + offer.marks[0])
            lifetimes_ms = pipe.execute()
        now, these, self._marks = datetime.now(UTC), set[str](), []
        for offer, left_ms in zip(offers, lifetimes_ms, strict=True):
            self._marks.append(_Mark(is_seen=left_ms > 0 or offer.marks[0] in these, since=self._since(now, left_ms)))
            these.add(offer.marks[0])

    def publish(self, offers: Sequence[FanOutEvent], unreadable: Sequence[NewFailure]) -> None:
        """Publish what became of the events, and what was quarantined."""
        items: list[Activity] = []
        for offer, mark in zip(offers, self._marks, strict=True):
            (event,) = events.decode(b"[%b]" % offer.event)
            label = EventLabel.from_event(event)
            wanted = tuple(name for name, bit in zip(self._handlers, offer.mask, strict=False) if bit == "1")
            items.append(RepeatedEvent(label, mark.since) if mark.is_seen else NewEvent(label, wanted))
        items += [
            UnreadableRecords(failure.kind, failure.records, str(failure.fields.get("error", "")))
            for failure in unreadable
        ]
        self._publisher.publish(items)

    def _since(self, now: datetime, left_ms: int) -> datetime | None:
        """Return when a mark was made that lives for this time; None if there is none, or the setting has changed."""
        since = now - timedelta(seconds=self._dedupe_seconds) + timedelta(milliseconds=left_ms)
        return since if left_ms > 0 and since <= now else None
