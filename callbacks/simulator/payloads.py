"""The bodies of callbacks, key for key as the specification's tables have them.

Optional keys left out are UNSET. Times come twice: `timestamp` in seconds, `micro_timestamp` in
milliseconds, whatever its name says (specification, "CALLBACK_INFO").
"""

from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

Channel: TypeAlias = Literal["INTERNAL", "SMS", "VIBER"]
Status: TypeAlias = Literal["ACCEPTD", "DELIVRD", "EXPIRED", "UNDELIV", "REJECTD", "SEEN"]

ReportKey: TypeAlias = tuple[str, str | None, str, str | None, int | None, int | None]
"""What tells one report from another: message_id, type, status, to, micro_timestamp, error_code.

Of a report that is written oddly: what a receiver can read of it, so None for what means nothing.
"""
ReplyKey: TypeAlias = tuple[str, str]
"""reply_message_id, the same however often a reply is sent, and req_uuid, new with each sending."""

_NAMES = {"channel": "type", "recipient": "to", "sender": "from"}


class Report(Struct, frozen=True, kw_only=True, rename=_NAMES):
    """One record of a status callback: CALLBACK_INFO."""

    channel: Channel
    message_id: str
    status: Status
    timestamp: int
    micro_timestamp: int
    recipient: str
    sender: str
    client_message_id: str | UnsetType = UNSET
    error_code: int

    @property
    def key(self) -> ReportKey:
        """The report's natural key; it has no identifier of its own."""
        return (self.message_id, self.channel, self.status, self.recipient, self.micro_timestamp, self.error_code)


class StatusBody(Struct, frozen=True, kw_only=True):
    """The body of a status callback."""

    api_job_id: str
    client_job_id: str | UnsetType = UNSET
    data: tuple[Report, ...]


class ReplyContent(Struct, frozen=True, kw_only=True):
    """What the recipient wrote: REPLY_MSG. A sticker or a picture has no text."""

    text: str | UnsetType = UNSET


class ReplyBody(Struct, frozen=True, kw_only=True, rename={"recipient": "to", "sender": "from"}):
    """The body of a reply callback. `sender` is who replies, `recipient` who sent the original message."""

    api_job_id: str
    client_job_id: str | UnsetType = UNSET
    reply_message_id: str
    orig_message_id: str | UnsetType = UNSET
    req_uuid: str
    channel: Literal["VIBER"] = "VIBER"
    timestamp: int
    micro_timestamp: int
    sender: str
    recipient: str
    message: ReplyContent

    @property
    def key(self) -> ReplyKey:
        """The reply's natural key."""
        return (self.reply_message_id, self.req_uuid)
