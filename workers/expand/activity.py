"""Which received events are new and which are repeats, for `callbacks dev`; see `workers.activity`."""

import itertools
from collections.abc import Collection, Sequence

import redis

from shared import events
from workers.activity import Activity, ActivityPublisher, EventLabel, NewEvent, RepeatedEvent, UnreadableRecords
from workers.runtime.settlement import FanOutEvents, NewFailure


class ExpandActivity:
    """Publishes after a fan-out what it did."""

    def __init__(self, connection: redis.Redis, handlers: Sequence[str]) -> None:
        self._publisher = ActivityPublisher(connection)
        self._handlers = tuple(handlers)

    def publish(
        self, offers: Sequence[FanOutEvents], unreadable: Sequence[NewFailure], *, duplicates: Collection[int]
    ) -> None:
        """Publish what became of the events, those at these positions being repeats, and what was quarantined."""
        items: list[Activity] = []
        repeats = frozenset(duplicates)
        positions = itertools.count()
        for offer in offers:
            wanted = tuple(name for name, bit in zip(self._handlers, offer.mask, strict=False) if bit == "1")
            for event in events.decode_each(offer.events):
                label = EventLabel.from_event(event)
                items.append(RepeatedEvent(label) if next(positions) in repeats else NewEvent(label, wanted))
        items += [
            UnreadableRecords(failure.kind, failure.records, str(failure.fields.get("error", "")))
            for failure in unreadable
        ]
        self._publisher.publish(items)
