"""The events that handlers receive: what the gateway reported, normalised, with the record as it was received.

An event is a value: frozen, comparable, the same on every worker. Its `id` is a digest of what the gateway reported,
not of when or how often it was received, so a repeated callback gives the same event.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b as _blake2b
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from shared import compact_events, phone_numbers
from shared.compact_events import CompactReply, CompactReport
from shared.schema import STATUSES

# Those after which nothing more is expected; SEEN may still follow DELIVRD.
FINAL_STATUSES: Final = frozenset(("DELIVRD", "SEEN", "EXPIRED", "DELETED", "UNDELIV", "REJECTD"))

_NEW_DIGEST: Final = _blake2b(digest_size=12)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TO_THE_MILLISECOND: Final = len("2015-09-25T07:12:54.145")
# Valid inside a JSON string, but str.splitlines() and some readers of JSON lines break a line at them.
_LINE_BREAKS: Final = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def known_status(name: str) -> str:
    """Return a status as the gateway writes it if it is a known one, otherwise unchanged."""
    return name.upper() if name.upper() in STATUSES else name


# Not kw_only, as `_complete_report` passes the fields by position.
# gc=False, here and for all structs made by the thousand: frozen values read from JSON are in no reference cycle, and
# the collector, which visits a batch again and again, took a fifth of a worker's time.
class ReportEvent(Struct, frozen=True, gc=False, array_like=True, tag="report"):
    """A delivery report: one status that one message reached.

    `channel` is the report's `type` (INTERNAL, SMS, VIBER, or what the gateway may add), `sender` its `from`,
    `recipient` its `to`. Times are UTC; `occurred_at` is the gateway's, `received_at` ours. What the gateway
    left out is None. `raw` is the record as received, with any unknown keys next to `data`.

    `is_final` is about this channel: the gateway may still send the message by another one.
    """

    id: str
    source: str
    api_job_id: str | None
    client_job_id: str | None
    message_id: str
    client_message_id: str | None
    channel: str | None
    status: str
    is_final: bool
    occurred_at: datetime | None
    sender: str | None
    recipient: str | None
    error_code: int | None
    received_at: datetime
    raw: dict[str, Any]

    kind: ClassVar[Literal["report"]] = "report"

    def to_json(self) -> str:
        """Return the one JSON form of an event, on one line: `kind`, then the fields."""
        return _to_json(self)


class ReplyEvent(Struct, frozen=True, gc=False, array_like=True, tag="reply"):
    """A recipient's message. `text` is None for a sticker or a picture. The rest is as in `ReportEvent`.

    `reply_message_id` identifies it, or `req_uuid` if the gateway gave no other.
    """

    id: str
    source: str
    api_job_id: str | None
    client_job_id: str | None
    reply_message_id: str | None
    orig_message_id: str | None
    req_uuid: str | None
    channel: str | None
    occurred_at: datetime | None
    sender: str | None
    recipient: str | None
    text: str | None
    received_at: datetime
    raw: dict[str, Any]

    kind: ClassVar[Literal["reply"]] = "reply"

    def to_json(self) -> str:
        """Return the one JSON form of an event, on one line: `kind`, then the fields."""
        return _to_json(self)


Event: TypeAlias = ReportEvent | ReplyEvent


class ReportTraits(Struct, frozen=True, gc=False):
    """Of reports, what the filters of handlers test: without the cost of an event."""

    source: str
    channel: str | None
    status: str

    kind: ClassVar[Literal["report"]] = "report"

    @property
    def is_final(self) -> bool:
        """As in `ReportEvent`."""
        return self.status in FINAL_STATUSES


StoredEvent: TypeAlias = ReportEvent | ReplyEvent | CompactReport | CompactReply
# An event's array begins with its tag.
_STRUCTS: Final[dict[Any, type[StoredEvent]]] = {
    struct.__struct_config__.tag: struct for struct in (ReportEvent, ReplyEvent, CompactReport, CompactReply)
}
_encode: Final = msgspec.json.Encoder().encode
# Not strict, as times may be numbers.
decode_stored: Final = msgspec.json.Decoder(list[StoredEvent], strict=False).decode


def encode(event: Event) -> bytes:
    """Return the form in which a delivery job carries an event: a JSON array in the order of the fields."""
    return _encode(event)


def decode(events: bytes | str | msgspec.Raw) -> list[Event]:
    """Return the events of a JSON array, each as `encode` or `encoded_from_callback` writes it."""
    return complete(decode_stored(events))


def decode_each(encoded: Iterable[bytes | msgspec.Raw]) -> list[Event]:
    """Return the events, each as `encode` or `encoded_from_callback` writes it."""
    return complete(decode_stored(b"[%b]" % b",".join(encoded)))


def from_arrays(events: Sequence[Any]) -> list[Event]:
    """Return the events of arrays that a JSON decoder has already read."""
    return complete(msgspec.convert(events, list[StoredEvent], strict=False))


def kind_of(array: Sequence[Any]) -> Literal["report", "reply"]:
    """Return the kind of an event that a JSON decoder has already read as an array. Raise ValueError for no event."""
    struct = _STRUCTS.get(array[0])
    if struct is None:
        raise ValueError("this is not the array of an event")
    return struct.kind


def with_trace(encoded: bytes, trace: str) -> bytes:
    """Return what `encode` returned with the traceparent of a delivery after the last field, where no reader sees it.

    A new field must not take this place. See `shared.tracing`.
    """
    return b'%b,"%b"]' % (encoded[:-1], trace.encode())


def read_trace(encoded: bytes | msgspec.Raw) -> str:
    """Return what `with_trace` added to an event; "" if nothing."""
    array = msgspec.json.decode(encoded)
    fields = 1 + len(_STRUCTS[array[0]].__struct_fields__)
    return str(array[fields]) if len(array) > fields else ""


def report_id(  # noqa: PLR0917 # what identifies it, in the order in which the contract names it
    source: str,
    message_id: str,
    channel: str | None,
    status: str,
    recipient: str | None,
    occurred_ms: int | None,
    error_code: int | None,
) -> str:
    """Return a report's identity, as the gateway gives it none: 24 hexadecimal digits, 96 bits.

    Of a recipient's number only the digits count, so `+356 99…` and `35699…` are the same; any other text counts as it
    is.
    """
    to = None if recipient is None else phone_numbers.comparable(recipient)
    return _digest(["report", source, message_id, channel, status, to, occurred_ms, error_code])


def reply_id(source: str, reply_message_id: str) -> str:
    """Return a reply's identity, from what is unique to the message, whichever `req_uuid` carries it."""
    return _digest(["reply", source, reply_message_id])


def request_id(source: str, req_uuid: str) -> str:
    """Return the identity of a reply without a `reply_message_id`, from its HTTP callback."""
    return _digest(["request", source, req_uuid])


def carrier_id(source: str, req_uuid: str) -> str:
    """Return the mark of the HTTP callback that carried a reply with an identity of its own.

    It never equals an identity, so a reply that has only its `req_uuid` is not taken for a repetition.
    """
    return _digest(["carrier", source, req_uuid])


def utc_time(unix_ms: int) -> datetime:
    """Return a time in milliseconds since 1970 as a datetime in UTC, exact to the millisecond."""
    return _EPOCH + timedelta(0, 0, unix_ms * 1000)  # in microseconds; by name it takes half as long again


def to_unix_ms(at: datetime) -> int:
    """Return a time in milliseconds since 1970, without what it has below a millisecond."""
    return int(at.timestamp() * 1000)


def rfc3339(time: datetime) -> str:
    """Return a time in UTC in the format of RFC 3339, with milliseconds: 2015-09-25T07:12:54.145Z."""
    # msgspec writes microseconds or none. isoformat() could write milliseconds, but takes five times as long.
    text: str = msgspec.to_builtins(time.astimezone(UTC))
    return f"{text[:_TO_THE_MILLISECOND]}Z" if "." in text else f"{text[:-1]}.000Z"


def complete(stored: list[StoredEvent]) -> list[Event]:
    """Return the events, with what only the record of a compact one has."""
    found: list[Event] = []
    received_ms, received_at = 0, _EPOCH
    for one in stored:
        if isinstance(one, CompactReport):
            if one.received_ms != received_ms:  # the events of a callback are neighbours
                received_ms, received_at = one.received_ms, utc_time(one.received_ms)
            found.append(_complete_report(one, received_at))
        elif isinstance(one, CompactReply):
            found.append(_complete_reply(one, utc_time(one.received_ms)))
        else:
            found.append(one)
    return found


# The values of a record are those of `compact_events.report_values`, but to call it takes a fifth of the time. The
# fields are passed by position, as names take half as long again.
def _complete_report(stored: CompactReport, received_at: datetime) -> ReportEvent:
    raw = stored.raw
    status = raw["status"]
    return ReportEvent(
        stored.id,
        stored.source,
        stored.api_job_id,
        stored.client_job_id,
        raw["message_id"],
        raw.get("client_message_id") or None,
        raw.get("type") or None,
        status,
        status in FINAL_STATUSES,
        stored.occurred_at,
        raw.get("from") or None,
        raw.get("to") or None,
        raw.get("error_code"),
        received_at,
        raw,
    )


def _complete_reply(stored: CompactReply, received_at: datetime) -> ReplyEvent:
    values = compact_events.reply_values(stored.raw)
    api_job_id, client_job_id, reply_message_id, orig_message_id, req_uuid, channel, sender, recipient, text = values
    return ReplyEvent(
        stored.id,
        stored.source,
        api_job_id,
        client_job_id,
        reply_message_id,
        orig_message_id,
        req_uuid,
        channel,
        stored.occurred_at,
        sender,
        recipient,
        text,
        received_at,
        stored.raw,
    )


def _digest(parts: list[Any]) -> str:
    digest = _NEW_DIGEST.copy()  # takes 500 instructions, a new one 1,600
    digest.update(_encode(parts))
    return digest.hexdigest()


def _to_json(event: Event) -> str:
    fields: dict[str, Any] = {"kind": event.kind} | msgspec.structs.asdict(event)
    fields["received_at"] = rfc3339(event.received_at)
    if event.occurred_at is not None:
        fields["occurred_at"] = rfc3339(event.occurred_at)
    text = _encode(fields).decode()
    # The line breaks are beyond ASCII, and searching for them costs as much as all the rest.
    return text if text.isascii() else text.translate(_LINE_BREAKS)
