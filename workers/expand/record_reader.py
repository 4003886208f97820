"""Callbacks become items, record by record, in order: events to fan out, and records that go to the quarantine.

One of the places where everything is caught: whatever the reading of a callback raises, the callback is split and read
one record at a time. The record that raises it again is quarantined with the traceback; the others become events.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from shared import body_parser, callback_events, json_reader, opt_outs, recent_rate, wire
from shared.batches import Accepted
from shared.cooperative import run_to_end
from shared.errors import NotJson, UnexpectedShape
from shared.events import Event, ReplyEvent, ReportTraits, carrier_id
from shared.keys import CountedKind
from shared.metrics import MAX_UNKNOWN_STATUSES, OTHER, UNKNOWN_STATUS, Metrics
from shared.rate_limited_log import RateLimitedLog
from shared.schema import STATUSES
from shared.structured_log import get_logger
from workers.declaration import Handler
from workers.expand.fan_out import MAX_ITEM_EVENTS, RecordResult
from workers.expand.spans import ExpandSpans
from workers.failures import quarantine
from workers.filters import Filters
from workers.runtime import outcome
from workers.runtime.settlement import MAX_DEATHS, FanOutEvents, NewFailure

log = get_logger("callbacks.expand")
_limited_log: Final = RateLimitedLog(log, interval_seconds=60.0)

_MAX_MASKS: Final = 4096
# The sender chooses statuses: beyond this number, or if one looks like anything else, they are counted as OTHER.
_STATUS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_ -]{0,31}")
_JOB_KEYS: Final = frozenset(("api_job_id", "client_job_id"))
_decode_envelope: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_records: Final = msgspec.json.Decoder(list[Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class RecordReader:
    """Reads callbacks for `handlers`, in that order, and counts in `metrics` what of them was unusual."""

    def __init__(
        self,
        handlers: Sequence[Handler | Filters],
        spans: ExpandSpans | None = None,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._handlers = tuple(handlers)
        self._reads_wishes = any(handler.opt_outs is not None for handler in self._handlers)
        self._metrics = Metrics() if metrics is None else metrics
        self._unknown_statuses: set[str] = set()
        self._masks: dict[tuple[object, ...], str] = {}
        self._read_traced = self._read_callback if spans is None else spans.wrap(self._read_callback)

    def read_items(self, accepted: Accepted, *, skip: int = 0, has_killed: bool = False) -> Iterator[RecordResult]:
        """Yield the items of a callback's records, without the first `skip` records, which an earlier run has settled.

        Together the items always stand for `accepted.records - skip` records. A callback that killed workers
        (`has_killed`) is quarantined unread.
        """
        left = accepted.records - skip
        if has_killed:
            error = f"{MAX_DEATHS} workers died while they read it"
            yield quarantine.new_failure(accepted, error, quarantine.encoded_body(accepted), records=left)
            return
        if not skip:
            yield from self._read_or_split(accepted)
            return
        for item in self._read_or_split(accepted):
            if skip >= item.records:
                skip -= item.records
                continue
            # An earlier run may have read the same records as other items.
            yield _without_first(item, skip) if skip else item
            skip = 0

    def _read_or_split(self, accepted: Accepted) -> list[RecordResult]:
        # A trace that cannot be recorded is no reason to quarantine the callback: so it is read without, too.
        for read in (self._read_traced, self._read_callback):
            try:
                items = read(accepted)
            except Exception as exc:  # noqa: BLE001 # the boundary
                error = exc
            else:
                return items
        log.error("callback_split", records=accepted.records, cause=outcome.internal_error(error).cause)
        parts = split_records(accepted)
        if parts is None or accepted.records == 1:
            return [quarantine.from_failed_callback(accepted, error, records=accepted.records)]
        return [self._read_record(parts.slice(index, index + 1)) for index in range(accepted.records)]

    def _read_record(self, accepted: Accepted) -> RecordResult:
        try:
            (item,) = self._read_callback(accepted)
        except Exception as exc:  # noqa: BLE001 # the boundary
            return quarantine.from_failed_callback(accepted, exc, records=1)
        return item

    def _read_callback(self, accepted: Accepted) -> list[RecordResult]:
        body = accepted.body.encode()
        try:
            callback = wire.read(body, accepted.kind)
        except (NotJson, UnexpectedShape) as exc:
            # The web process checks no more than it must. What it accepted and cannot be read is quarantined whole.
            return [quarantine.new_failure(accepted, str(exc), body, records=accepted.records)]
        found = callback_events.encoded_from_callback(
            callback, source=accepted.source, received_ms=accepted.received_ms
        )
        offers = [self._offer(*each) for each in found]
        for field, number in callback.unreadable_fields.items():
            self._metrics.add((recent_rate.UNREADABLE, field), number)
            _limited_log.warning("field_unreadable", {"field": field}, source=accepted.source, records=number)
        records = sum([len(offer.events) for offer in offers]) + len(callback.faults)
        if records != accepted.records:
            raise ValueError(f"{records} records were read of a callback that was accepted as {accepted.records}")
        if records > MAX_ITEM_EVENTS:
            offers = [part for offer in offers for part in offer.parts(MAX_ITEM_EVENTS)]
        return [*_merge_in_order(accepted, callback, offers)] if callback.faults else [*offers]

    def _offer(self, event: Event | ReportTraits, ids: list[str], encoded: list[bytes]) -> FanOutEvents:
        # All that a handler's filters test. The events of a campaign differ little in it, so the masks are cached.
        tested: tuple[object, ...]
        kind: CountedKind
        if isinstance(event, ReplyEvent):
            wish = opt_outs.wish(event.text) if self._reads_wishes else None
            kind, marks, tested = "reply", _marks_of_reply(event), ("reply", event.source, event.channel, wish)
        else:
            kind, marks, tested = "report", ids, (event.source, event.channel, event.status)
            if event.status not in STATUSES:
                self._count_unknown_status(event.status)
        return FanOutEvents(kind, self._masks.get(tested) or self._find_mask(tested, event), marks, encoded)

    def _find_mask(self, tested: tuple[object, ...], event: Event | ReportTraits) -> str:
        mask = "".join("1" if handler.wants(event) else "0" for handler in self._handlers)
        if len(self._masks) >= _MAX_MASKS:  # the sender chooses statuses and channels
            self._masks.clear()
        self._masks[tested] = mask
        return mask

    def _count_unknown_status(self, status: str) -> None:
        """Count a status that the specification does not have by its name, if it looks like one and is no number."""
        name = status if _STATUS_NAME.fullmatch(status) else OTHER
        if name not in self._unknown_statuses:
            if len(self._unknown_statuses) >= MAX_UNKNOWN_STATUSES:
                name = OTHER
            self._unknown_statuses.add(name)
        self._metrics.add((UNKNOWN_STATUS, name))


class CallbackRecords(Struct, frozen=True):
    """The records of a callback, as received, and the other keys of its JSON object."""

    accepted: Accepted
    envelope: dict[str, Raw]
    records: list[Raw]

    def slice(self, first: int, last: int) -> Accepted:
        """Return the records from `first` up to, not including, `last` as a callback of their own, of the same job."""
        value: dict[str, Any] = {**self.envelope, "data": self.records[first:last]}
        return Accepted(
            self.accepted.kind,
            self.accepted.source,
            self.accepted.received_ms,
            last - first,
            str(_encode(value), encoding="utf-8"),
        )


def split_records(accepted: Accepted, *, any_number: bool = False) -> CallbackRecords | None:
    """Return the records of a callback; None if it has no list of records, or not as many as were counted.

    `any_number`: also if they are not as many, as in a callback that was quarantined whole and counted as one.
    """
    try:
        envelope = _decode_envelope(accepted.body.removeprefix("\ufeff").encode())
        data = bytes(envelope.pop("data"))
        nested = run_to_end(json_reader.read_nested(data)) if data.startswith(b'"') else None
        data = nested or data
        # A list is split without the functions that may have failed to read it.
        records = (
            _decode_records(data) if data.startswith(b"[") else run_to_end(body_parser.split_array(data, "$.data"))
        )
    except Exception:  # noqa: BLE001 # whatever the reason, the callback stays whole
        return None
    if len(records) != accepted.records and not any_number:
        return None
    extra_bytes = sum(len(key) + len(bytes(value)) for key, value in envelope.items() if key not in _JOB_KEYS)
    if extra_bytes * len(records) > wire.MAX_EXTRA_BYTES:
        envelope = {key: value for key, value in envelope.items() if key in _JOB_KEYS}
    return CallbackRecords(accepted, envelope, records)


def _without_first(item: RecordResult, records: int) -> RecordResult:
    if isinstance(item, NewFailure):
        return msgspec.structs.replace(item, records=item.records - records)
    return item.part(records)


def _marks_of_reply(event: ReplyEvent) -> list[str]:
    """Return the mark by which a reply is known as seen, and a second one, which shows a reused `req_uuid`."""
    if event.reply_message_id is None or event.req_uuid is None:
        return [event.id]
    return [event.id, carrier_id(event.source, event.req_uuid)]


def _merge_in_order(
    accepted: Accepted, callback: wire.Callback, offers: Sequence[FanOutEvents]
) -> Iterator[RecordResult]:
    """Yield the events and, between them, the records that cannot be read, adjacent ones as one item.

    In the order of the records: so a number of settled records always means the same records, also
    in a later run.
    """
    parts = split_records(accepted)
    if parts is None:
        yield from offers
        error = "; ".join(body_parser.summarize(callback.faults))
        yield quarantine.new_failure(accepted, error, callback.unreadable, records=len(callback.faults))
        return
    others = (event for offer in offers for event in offer.parts(1))
    index = 0
    for first, last in _adjacent_ranges([fault.index for fault in callback.faults]):
        yield from (next(others) for _ in range(first - index))
        error = "; ".join(body_parser.summarize([fault for fault in callback.faults if first <= fault.index < last]))
        yield quarantine.new_failure(accepted, error, parts.slice(first, last).body.encode(), records=last - first)
        index = last
    yield from others


def _adjacent_ranges(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of each run of consecutive indices."""
    first = last = -1
    for index in indices:
        if index != last:
            if last >= 0:
                yield first, last
            first = index
        last = index + 1
    if last >= 0:
        yield first, last
