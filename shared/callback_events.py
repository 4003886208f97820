"""The events of a callback: its records, read by `shared.wire`, become events (`shared.events`) in their order."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from shared import compact_events, normalize, wire
from shared.compact_events import CompactReply, CompactReport
from shared.events import (
    FINAL_STATUSES,
    Event,
    ReplyEvent,
    ReportEvent,
    ReportTraits,
    reply_id,
    report_id,
    request_id,
    utc_time,
)
from shared.schema import (
    CHANNELS,
    STATUSES,
    PlainRecord,
    Record,
    ReplyCallback,
)

_encode: Final = msgspec.json.Encoder().encode
_decode_raw: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def from_callback(callback: wire.Callback, *, source: str, received_at: datetime) -> Iterator[Event]:
    """Yield the events of a callback that was read, in the order of its records."""
    read_event = _EventReader(callback, source=source, received_at=received_at).read
    for record, raw in callback.records:
        event = read_event(record, raw)
        yield msgspec.structs.replace(event, raw=_decode_raw(cast("msgspec.Raw", event.raw)))


def encoded_from_callback(
    callback: wire.Callback, *, source: str, received_ms: int
) -> Iterator[tuple[Event | ReportTraits, list[str], list[bytes]]]:
    """Yield the same events, each in the smallest form that `decode` reads, with their ids.

    Adjacent ones that no filter tells apart come together if their records are plain. Of such a record no event is
    made. It is stored as `wire.read` has it, so it is neither decoded nor encoded on its way to the handlers' queues.
    Of an event that is made, `raw` is undecoded, not to be read.
    """
    envelope, others = callback.envelope, None
    api_job_id, client_job_id = normalize.text(envelope.api_job_id), normalize.text(envelope.client_job_id)
    plain = PlainRecord if not callback.extra else None
    traits: ReportTraits | None = None
    ids: list[str] = []
    encoded: list[bytes] = []
    record: Any  # of several types: to narrow it by isinstance takes twice as long
    raw: Any  # undecoded, and a time as a number of seconds: they are only encoded
    occurred_at: Any
    for record, raw in callback.records:
        is_plain = type(record) is plain
        if traits is not None and not (is_plain and record.status == traits.status and record.type == traits.channel):
            yield traits, ids, encoded
            traits = None
        if not is_plain:
            others = others or _EventReader(callback, source=source, received_at=utc_time(received_ms))
            event = others.read(record, raw)
            yield event, [event.id], [_encode(_compact(event, received_ms=received_ms) or event)]
            continue
        if traits is None:
            traits, ids, encoded = ReportTraits(source, record.type, record.status), [], []
        time_ms = record.micro_timestamp
        event_id = report_id(
            source, record.message_id, traits.channel, traits.status, record.to, time_ms, record.error_code
        )
        occurred_at = time_ms / 1000
        stored = CompactReport(event_id, source, api_job_id, client_job_id, occurred_at, received_ms, raw)
        ids.append(event_id)
        encoded.append(_encode(stored))
    if traits is not None:
        yield traits, ids, encoded


def _compact(event: Event, *, received_ms: int) -> CompactReport | CompactReply | None:
    if isinstance(event, ReportEvent):
        return compact_events.compact_report(event, received_ms=received_ms)
    return compact_events.compact_reply(event, received_ms=received_ms)


class _EventReader:
    """Makes the events of a callback."""

    def __init__(self, callback: wire.Callback, *, source: str, received_at: datetime) -> None:
        self._source = source
        self._received_at = received_at
        self._extra = callback.extra
        envelope = callback.envelope
        self._api_job_id = normalize.text(envelope.api_job_id)
        self._client_job_id = normalize.text(envelope.client_job_id)

    def read(self, record: Record | ReplyCallback, raw: msgspec.Raw) -> Event:
        """Return the event of a record, with `raw` as msgspec.Raw, which is encoded as it is."""
        if isinstance(record, ReplyCallback):
            return _reply(record, raw, source=self._source, received_at=self._received_at)
        return _report(
            record,
            _with_extra(raw, self._extra) if self._extra else raw,
            source=self._source,
            api_job_id=self._api_job_id,
            client_job_id=self._client_job_id,
            received_at=self._received_at,
        )


def _with_extra(raw: msgspec.Raw, extra: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encode({**extra, **_decode_members(raw)}))


def _report(
    record: Record,
    raw: msgspec.Raw,
    *,
    source: str,
    api_job_id: str | None,
    client_job_id: str | None,
    received_at: datetime,
) -> ReportEvent:
    occurred_ms = normalize.unix_ms(record)
    message_id, channel, status = str(record.message_id), record.type, record.status
    # The usual spelling, without the cost of a call.
    if channel not in CHANNELS:
        channel = normalize.known(channel, CHANNELS)
    if status not in STATUSES:
        status = normalize.known(status, STATUSES) or status
    recipient = normalize.text(record.to)
    error_code = normalize.integer(record.error_code)
    return ReportEvent(
        id=report_id(source, message_id, channel, status, recipient, occurred_ms, error_code),
        source=source,
        api_job_id=api_job_id,
        client_job_id=client_job_id,
        message_id=message_id,
        client_message_id=normalize.text(record.client_message_id),
        channel=channel,
        status=status,
        is_final=status in FINAL_STATUSES,
        occurred_at=None if occurred_ms is None else utc_time(occurred_ms),
        sender=normalize.sender(record),
        recipient=recipient,
        error_code=error_code,
        received_at=received_at,
        raw=cast("dict[str, Any]", raw),
    )


def _reply(reply: ReplyCallback, raw: msgspec.Raw, *, source: str, received_at: datetime) -> ReplyEvent:
    occurred_ms = normalize.unix_ms(reply)
    reply_message_id, req_uuid = normalize.text(reply.reply_message_id), normalize.text(reply.req_uuid)
    return ReplyEvent(
        id=request_id(source, req_uuid or "") if reply_message_id is None else reply_id(source, reply_message_id),
        source=source,
        api_job_id=normalize.text(reply.api_job_id),
        client_job_id=normalize.text(reply.client_job_id),
        reply_message_id=reply_message_id,
        orig_message_id=normalize.text(reply.orig_message_id),
        req_uuid=req_uuid,
        channel=normalize.known(reply.channel, CHANNELS),
        occurred_at=None if occurred_ms is None else utc_time(occurred_ms),
        sender=normalize.sender(reply),
        recipient=normalize.text(reply.to),
        text=None if reply.message is None else normalize.text(reply.message.text),
        received_at=received_at,
        raw=cast("dict[str, Any]", raw),
    )
