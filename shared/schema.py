"""The gateway's two JSON bodies as types: their keys, and the values of each key that can be read.

The keys are those of "Message status callback" and "Message reply callback" in the IM Gateway REST API. The variants
(`sms_from`, `viber_from`, integers as digits, several units of time) are those of its sibling pages.
"""

from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

# The two kinds of callbacks.
Kind: TypeAlias = Literal["status", "reply"]

# `\Z`, as `$` would allow a line feed after the digits; [0-9], as \d would allow the digits of every script.
_Digits: TypeAlias = Annotated[str, Meta(pattern=r"^(-?[0-9]{1,17})?\Z")]
# 10^17 microseconds after 1970 is the year 5138: anything beyond is not a time in any of the three units.
_Time: TypeAlias = Annotated[int, Meta(ge=-(10**17), le=10**17)] | _Digits | None
_Id: TypeAlias = Annotated[str, Meta(min_length=1)] | int
_Text: TypeAlias = str | int | None
# Every event of a bundle has the envelope's texts, so they are limited: to four times what the gateway allows.
MAX_ENVELOPE_TEXT: Final = 1024
_EnvelopeText: TypeAlias = Annotated[str, Meta(max_length=MAX_ENVELOPE_TEXT)] | int | None
_Code: TypeAlias = int | _Digits | None
_NonEmptyText: TypeAlias = Annotated[str, Meta(min_length=1)]
_Status: TypeAlias = Literal["ACCEPTD", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "REJECTD", "UNKNOWN", "SEEN"]
_Channel: TypeAlias = Literal["INTERNAL", "SMS", "VIBER"]

# Those of the specification. The gateway may add others.
STATUSES: Final[frozenset[str]] = frozenset(get_args(_Status))
CHANNELS: Final[frozenset[str]] = frozenset(get_args(_Channel))


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """One delivery report of a status callback's `data` (CALLBACK_INFO in the specification)."""

    message_id: _Id
    status: Annotated[str, Meta(min_length=1)]
    type: _Text = None
    timestamp: _Time = None
    micro_timestamp: _Time = None
    to: _Text = None
    from_: _Text = msgspec.field(default=None, name="from")
    sms_from: _Text = None
    viber_from: _Text = None
    client_message_id: _Text = None
    error_code: _Code = None


class StatusCallback(Struct, frozen=True, gc=False, kw_only=True):
    """A status callback whose records are all readable."""

    data: Annotated[list[Record], Meta(min_length=1)]
    api_job_id: _EnvelopeText = None
    client_job_id: _EnvelopeText = None


class StatusEnvelope(Struct, frozen=True, gc=False, kw_only=True):
    """What a status callback says about all of its records, next to `data`."""

    api_job_id: _EnvelopeText = None
    client_job_id: _EnvelopeText = None


class ReplyMessage(Struct, frozen=True, gc=False, kw_only=True):
    """REPLY_MSG in the specification: empty for a sticker or a picture."""

    text: str | None = None


class ReplyCallback(Struct, frozen=True, gc=False, kw_only=True):
    """A recipient's message, identified by its `reply_message_id`, or by its `req_uuid` if it has no other."""

    reply_message_id: _Text = None
    req_uuid: _Text = None
    api_job_id: _Text = None
    client_job_id: _Text = None
    orig_message_id: _Text = None
    channel: _Text = None
    timestamp: _Time = None
    micro_timestamp: _Time = None
    from_: _Text = msgspec.field(default=None, name="from")
    sms_from: _Text = None
    viber_from: _Text = None
    to: _Text = None
    message: ReplyMessage | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, which msgspec turns into a ValidationError, if nothing identifies it."""
        if self.reply_message_id in (None, "") and self.req_uuid in (None, ""):
            raise ValueError("missing required key - at `$.reply_message_id`")


class DocumentedRecord(Record, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A record with documented keys only: nothing in it is nested or skipped."""


class PlainRecord(DocumentedRecord, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A record written as the specification has it, as nearly all are: its event has the same values.

    Its time is in milliseconds, between 1973 and 2096: as seconds, a double has it exactly.
    """

    message_id: _NonEmptyText
    status: _Status
    type: _Channel
    micro_timestamp: Annotated[int, Meta(ge=10**11, lt=4 * 10**12)]
    to: _NonEmptyText
    from_: _NonEmptyText = msgspec.field(name="from")
    client_message_id: str | None = None
    error_code: int | None = None


class DocumentedStatusCallback(Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A status callback with documented keys only."""

    data: Annotated[list[DocumentedRecord], Meta(min_length=1)]
    api_job_id: _EnvelopeText = None
    client_job_id: _EnvelopeText = None


class PlainStatusCallback(DocumentedStatusCallback, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A status callback with plain records only."""

    data: Annotated[list[PlainRecord], Meta(min_length=1)]  # type: ignore[assignment] # read only


class DocumentedReplyMessage(ReplyMessage, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A reply's message with documented keys only."""


class DocumentedReplyCallback(ReplyCallback, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A reply with documented keys only."""

    message: DocumentedReplyMessage | None = None


class UndecodedRecords(Struct, frozen=True, gc=False, kw_only=True):
    """The records of a status callback that is known to have some."""

    data: list[msgspec.Raw]


# The keys of optional fields: one that cannot be read costs itself alone, and is counted by its name.
OPTIONAL_KEYS: Final = tuple(
    sorted(
        {
            field.encode_name
            for struct in (Record, StatusEnvelope, ReplyCallback)
            for field in msgspec.structs.fields(struct)
            if not field.required
        }
    )
)


class CallbackKeys(Struct, frozen=True, gc=False, kw_only=True):
    """The undecoded keys that show a callback's kind and hold its ids. All other keys are skipped."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    reply_message_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    req_uuid: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    api_job_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    client_job_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
