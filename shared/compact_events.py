"""The form in which an expand worker stores most events: without the fields that their record repeats.

`raw`, the record as received, stands last in an event and is needed anyway. A field that is a value of `raw` as it is,
or follows from one, is not stored again: of a documented report these are a fifth of what Redis writes for its
deliveries. If any of them was read in another way, such as a number that was written as text or a status in lower
case, the event is stored whole. The tags are the kinds of callbacks (`schema.Kind`), shortened.
"""

from collections.abc import Callable
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from shared.events import ReplyEvent, ReportEvent

# message_id, client_message_id, channel, status, sender, recipient, error_code
ReportValues: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any]
# api_job_id, client_job_id, reply_message_id, orig_message_id, req_uuid, channel, sender, recipient, text
ReplyValues: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any, Any]

_CODE_TYPES: Final = (int, NoneType)
_decode: Final[Callable[[Any], dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any]).decode


class CompactReport(Struct, frozen=True, gc=False, array_like=True, tag="s"):
    """A report. `received_ms`, in milliseconds since 1970, takes half the bytes of a time.

    `occurred_at` is stored as a number of seconds if that is exact, as of a `PlainRecord`, and read as the same time.
    """

    id: str
    source: str
    api_job_id: str | None
    client_job_id: str | None
    occurred_at: datetime | None
    received_ms: int
    raw: dict[str, Any]

    kind: ClassVar[Literal["report"]] = "report"


class CompactReply(Struct, frozen=True, gc=False, array_like=True, tag="r"):
    """A reply."""

    id: str
    source: str
    occurred_at: datetime | None
    received_ms: int
    raw: dict[str, Any]

    kind: ClassVar[Literal["reply"]] = "reply"


def compact_report(event: "ReportEvent", *, received_ms: int) -> CompactReport | None:
    """Return the form of a report whose `raw` is still a msgspec.Raw; None if it has to be stored whole."""
    stored = report_values(_decode(event.raw))
    # The error code is the only one that is not a text, and 1 == 1.0 == True.
    if type(stored[-1]) not in _CODE_TYPES or stored != (
        event.message_id,
        event.client_message_id,
        event.channel,
        event.status,
        event.sender,
        event.recipient,
        event.error_code,
    ):
        return None
    return CompactReport(
        event.id, event.source, event.api_job_id, event.client_job_id, event.occurred_at, received_ms, event.raw
    )


def compact_reply(event: "ReplyEvent", *, received_ms: int) -> CompactReply | None:
    """Return the form of a reply whose `raw` is still a msgspec.Raw; None if it has to be stored whole."""
    if reply_values(_decode(event.raw)) != (
        event.api_job_id,
        event.client_job_id,
        event.reply_message_id,
        event.orig_message_id,
        event.req_uuid,
        event.channel,
        event.sender,
        event.recipient,
        event.text,
    ):
        return None
    return CompactReply(event.id, event.source, event.occurred_at, received_ms, event.raw)


def report_values(raw: dict[str, Any]) -> ReportValues:
    """Return the values of a record that stand for fields of its event."""
    get = raw.get
    return (
        get("message_id"),
        get("client_message_id") or None,
        get("type") or None,
        get("status"),
        get("from") or None,
        get("to") or None,
        get("error_code"),
    )


def reply_values(raw: dict[str, Any]) -> ReplyValues:
    """Return the values of a reply that stand for fields of its event."""
    get = raw.get
    message = get("message")
    return (
        get("api_job_id") or None,
        get("client_job_id") or None,
        get("reply_message_id") or None,
        get("orig_message_id") or None,
        get("req_uuid") or None,
        get("channel") or None,
        get("from") or None,
        get("to") or None,
        message.get("text") or None if isinstance(message, dict) else None,
    )
