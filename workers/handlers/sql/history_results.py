"""What is read of the tables of the handler `sql`: messages with their statuses and replies, totals, jobs.

It knows nothing of the database, so those who only name these types need not load SQLAlchemy.
"""

from datetime import datetime

from msgspec import Raw, Struct


class Message(Struct, frozen=True, kw_only=True):
    """A message with its current status. Times are UTC; `…received_at` are ours, all others the gateway's."""

    message_id: str
    status: str
    is_final: bool
    status_at: datetime | None
    channel: str | None
    error_code: int | None
    api_job_id: str | None
    client_job_id: str | None
    client_message_id: str | None
    recipient: str | None
    sender: str | None
    source: str
    accepted_at: datetime | None
    delivered_at: datetime | None
    first_at: datetime | None
    last_at: datetime | None
    first_received_at: datetime
    last_received_at: datetime


class Status(Struct, frozen=True, kw_only=True):
    """One status of a message, with the record as received."""

    event_id: str
    message_id: str
    status: str
    channel: str | None
    occurred_at: datetime | None
    received_at: datetime
    error_code: int | None
    source: str
    raw: Raw


class Reply(Struct, frozen=True, kw_only=True):
    """One reply, with the callback as received."""

    event_id: str
    reply_message_id: str
    orig_message_id: str | None
    api_job_id: str | None
    channel: str | None
    occurred_at: datetime | None
    received_at: datetime
    sender: str | None
    recipient: str | None
    text: str | None
    source: str
    raw: Raw


class Timeline(Struct, frozen=True, omit_defaults=True):
    """A message, its statuses in the order of the gateway's times, and the replies to it.

    `is_cut` says that there are more of them than the limit.
    """

    message: Message
    statuses: list[Status]
    replies: list[Reply]
    is_cut: bool = False


class Totals(Struct, frozen=True, kw_only=True):
    """Messages by their current status; `delivery_rate` is the share of DELIVRD and SEEN, from 0 to 1."""

    messages: int
    statuses: dict[str, int]
    delivered: int
    delivery_rate: float | None


class JobTotals(Struct, frozen=True, kw_only=True):
    """The totals of one send request."""

    api_job_id: str | None
    client_job_id: str | None
    totals: Totals


class DayTotals(Struct, frozen=True, kw_only=True):
    """The totals of the messages whose first report came on one day (UTC)."""

    day: str
    totals: Totals


class DeliveryTimes(Struct, frozen=True, kw_only=True):
    """Seconds from ACCEPTD to DELIVRD or SEEN, by the gateway's times, of the `messages` that have both."""

    messages: int
    p50: float | None
    p95: float | None


class Stats(Struct, frozen=True, kw_only=True):
    """All totals: days oldest first, jobs newest first."""

    total: Totals
    seconds_to_deliver: DeliveryTimes
    days: list[DayTotals]
    jobs: list[JobTotals]


class JobSummary(Struct, frozen=True, kw_only=True):
    """One job. `sent` counts the messages of which a report was received; of others nothing is known.

    `delivery_rate` is the share of `sent` that is DELIVRD or SEEN, from 0 to 1. Times are UTC.
    """

    api_job_id: str | None
    client_job_id: str | None
    sent: int
    final: int
    overdue: int
    delivered: int
    delivery_rate: float
    first_received_at: datetime
    last_received_at: datetime
