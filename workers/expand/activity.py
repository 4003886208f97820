"""Which received events are new and which are repeats, for `callbacks dev`; see `workers.activity`."""

from collections.abc import Collection, Sequence

import redis

from shared import events
from workers.activity import Activity, ActivityPublisher, EventLabel, NewEvent, RepeatedEvent, UnreadableRecords
from workers.runtime.settlement import FanOutEvent, NewFailure


class ExpandActivity:
    """Publishes after a fan-out what it did."""

    def __init__(self, connection: redis.Redis, handlers: Sequence[str]) -> None:
        self._publisher = ActivityPublisher(connection)
        self._handlers = tuple(handlers)

    def publish(
        self, offers: Sequence[FanOutEvent], unreadable: Sequence[NewFailure], *, duplicates: Collection[int]
    ) -> None:
        """Publish what became of the events, those at these positions being repeats, and what was quarantined."""
        items: list[Activity] = []
        repeats = frozenset(duplicates)
        for position, offer in enumerate(offers):
            (event,) = events.decode(b"[%b]" % offer.event)
            label = EventLabel.from_event(event)
            wanted = tuple(name for name, bit in zip(self._handlers, offer.mask, strict=False) if bit == "1")
            items.append(RepeatedEvent(label) if position in repeats else NewEvent(label, wanted))
        items += [
            UnreadableRecords(failure.kind, failure.records, str(failure.fields.get("error", "")))
            for failure in unreadable
        ]
        self._publisher.publish(items)
