"""Callbacks become items, record by record, in order: events to offer, and what cannot be read, to be set aside.

One of the places where everything is caught: whatever the reading of a callback raises, it is taken apart and read one
record at a time, and the record that raises it again is set aside with the traceback. The others go on.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from shared import batches, events, wire
from shared.errors import NotJson, UnexpectedShape
from workers.declaration import Handler
from workers.expand import bundle
from workers.expand.spans import ExpandSpans
from workers.failures import quarantine
from workers.filters import Filters
from workers.runtime import outcome
from workers.runtime.settlement import MAX_DEATHS, FanOutEvent, Item, NewFailure

log = logging.getLogger("callbacks.expand")

_MAX_MASKS: Final = 4096


class RecordReader:
    """Reads callbacks for `handlers`, in that order."""

    def __init__(self, handlers: Sequence[Handler | Filters], spans: ExpandSpans | None = None) -> None:
        self._handlers = tuple(handlers)
        self._masks: dict[tuple[object, ...], str] = {}
        self._read_traced = self._read_callback if spans is None else spans.wrap(self._read_callback)

    def read_items(self, kept: batches.Accepted, *, skip: int = 0, has_killed: bool = False) -> Iterator[Item]:
        """Yield what a callback's records are, without the first `skip`, which an earlier run has settled.

        Together they always stand for `kept.records` records. A callback of which workers have died is not read.
        """
        left = kept.records - skip
        if has_killed:
            error = f"{MAX_DEATHS} workers died while they read it"
            yield quarantine.new_failure(kept, error, quarantine.encoded_body(kept), records=left)
            return
        if not skip:
            yield from self._read_or_split(kept)
            return
        for item in self._read_or_split(kept):
            records = item.records if isinstance(item, NewFailure) else 1
            if skip >= records:
                skip -= records
                continue
            # An earlier run may have set the same records aside in other portions.
            yield (
                msgspec.structs.replace(item, records=records - skip) if skip and isinstance(item, NewFailure) else item
            )
            skip = 0

    def _read_or_split(self, kept: batches.Accepted) -> list[Item]:
        for read in (
            self._read_traced,
            self._read_callback,
        ):  # a trace that cannot be recorded is no reason to set it aside
            try:
                items = read(kept)
            except Exception as exc:  # noqa: BLE001 # the boundary
                error = exc
            else:
                return items
        log.error("action=callback_split records=%d cause=%s", kept.records, outcome.internal_error(error).cause)
        parts = bundle.split(kept)
        if parts is None or kept.records == 1:
            return [quarantine.from_failed_callback(kept, error, records=kept.records)]
        return [self._read_record(parts.slice(place, place + 1)) for place in range(kept.records)]

    def _read_record(self, kept: batches.Accepted) -> Item:
        try:
            (item,) = self._read_callback(kept)
        except Exception as exc:  # noqa: BLE001 # the boundary
            return quarantine.from_failed_callback(kept, exc, records=1)
        return item

    def _read_callback(self, kept: batches.Accepted) -> list[Item]:
        body = kept.body.encode()
        try:
            callback = wire.read(body, kept.kind)
        except (NotJson, UnexpectedShape) as exc:
            # The web process looks only as far as it must; whatever it let pass is set aside here, whole.
            return [quarantine.new_failure(kept, str(exc), body, records=kept.records)]
        received_at = events.utc_time(kept.received_ms)
        offers: list[Item] = [
            self._offer(event) for event in events.from_callback(callback, source=kept.source, received_at=received_at)
        ]
        items = [*_merge_in_order(kept, callback, offers)] if callback.faults else offers
        records = sum(item.records if isinstance(item, NewFailure) else 1 for item in items)
        if records != kept.records:
            raise ValueError(f"{records} records were read of a callback that was accepted as {kept.records}")
        return items

    def _offer(self, event: events.Event) -> FanOutEvent:
        return FanOutEvent(event.kind, _marks(event), self._handler_mask(event), events.encode(event))

    def _handler_mask(self, event: events.Event) -> str:
        # All that a handler's filters look at; a campaign's events differ in little of it.
        traits: tuple[object, ...]
        if event.kind == "report":
            traits = (event.source, event.channel, event.status, event.is_final)
        else:
            traits = (event.source, event.channel)
        mask = self._masks.get(traits)
        if mask is None:
            mask = "".join("1" if handler.wants(event) else "0" for handler in self._handlers)
            if len(self._masks) >= _MAX_MASKS:  # statuses and channels are the sender's words
                self._masks.clear()
            self._masks[traits] = mask
        return mask


def _marks(event: events.Event) -> tuple[str, ...]:
    """Return the mark by which an event is known; for a reply, behind it, the one that shows a reused `req_uuid`."""
    if event.kind == "reply" and event.reply_message_id is not None and event.req_uuid is not None:
        return (event.id, events.carrier_id(event.source, event.req_uuid))
    return (event.id,)


def _merge_in_order(kept: batches.Accepted, callback: wire.Callback, offers: Sequence[Item]) -> Iterator[Item]:
    """Yield the events and, where they stood among them, the records that cannot be read: neighbours together.

    So a count of records always says which of them are settled, whoever reads the callback next, and how.
    """
    parts = bundle.split(kept)
    if parts is None:
        yield from offers
        error = "; ".join(wire.summarize(callback.faults))
        yield quarantine.new_failure(kept, error, callback.unreadable, records=len(callback.faults))
        return
    others = iter(offers)
    place = 0
    for first, last in _adjacent_ranges([fault.index for fault in callback.faults]):
        yield from (next(others) for _ in range(first - place))
        error = "; ".join(wire.summarize([fault for fault in callback.faults if first <= fault.index < last]))
        yield quarantine.new_failure(kept, error, parts.slice(first, last).body.encode(), records=last - first)
        place = last
    yield from others


def _adjacent_ranges(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = -1
    for place in places:
        if place != last:
            if last >= 0:
                yield first, last
            first = place
        last = place + 1
    if last >= 0:
        yield first, last
