"""The tables as this release reads and writes them. `migrations` creates them; a test compares the two.

Their names begin with `callbacks_`, so that the database may have other tables too. Times are UTC.
Texts compare by code point everywhere: PostgreSQL's collation "C", SQLite's BINARY, Python's str. Numbers are stored as
received; the column `…_key` next to them has their digits alone, by which they are found (`texts.number_key`).
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

# Alembic's version table, with a name that differs from those of other applications in the same database.
VERSION_TABLE: Final = "callbacks_schema"


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone in Python; text in UTC in SQLite, which has no times: 2015-09-25 07:12:54.145000."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value to write."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the time that was read."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if dialect.name == "sqlite" else time.astimezone(UTC)


def text_type() -> Text:
    """Return the column type of texts."""
    return Text().with_variant(Text(collation="C"), "postgresql")


metadata: Final = MetaData()

# One row for each message, with its current status (`current_status`).
messages: Final = Table(
    "callbacks_messages",
    metadata,
    Column("message_id", text_type(), primary_key=True),
    Column("status", text_type(), nullable=False),
    Column("is_final", Boolean, nullable=False),
    Column("status_at", UtcTime),
    Column("channel", text_type()),
    Column("error_code", BigInteger),
    Column("api_job_id", text_type()),
    Column("client_job_id", text_type()),
    Column("client_message_id", text_type()),
    Column("recipient", text_type()),
    Column("recipient_key", text_type()),
    Column("sender", text_type()),
    Column("source", text_type(), nullable=False),
    Column("accepted_at", UtcTime),
    Column("delivered_at", UtcTime),
    Column("first_at", UtcTime),
    Column("last_at", UtcTime),
    Column("first_received_at", UtcTime, nullable=False),
    Column("last_received_at", UtcTime, nullable=False),
    Column("status_rank", text_type(), nullable=False),
    Index("callbacks_messages_client_message_id", "client_message_id"),
    Index("callbacks_messages_api_job_id", "api_job_id", "recipient_key"),
    Index("callbacks_messages_client_job_id", "client_job_id"),
    Index("callbacks_messages_recipient_key", "recipient_key", "last_received_at"),
    Index("callbacks_messages_status", "status", "last_received_at"),
    Index("callbacks_messages_first_received_at", "first_received_at"),
    Index("callbacks_messages_last_received_at", "last_received_at"),
    # Few among millions have no final status (`overdue`).
    Index(
        "callbacks_messages_not_final",
        "first_received_at",
        sqlite_where=text("is_final IS 0"),
        postgresql_where=text("is_final IS false"),
    ),
)

# One row for each report.
statuses: Final = Table(
    "callbacks_statuses",
    metadata,
    Column("event_id", text_type(), primary_key=True),
    Column("message_id", text_type(), nullable=False),
    Column("status", text_type(), nullable=False),
    Column("is_final", Boolean, nullable=False),
    Column("channel", text_type()),
    Column("occurred_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    Column("error_code", BigInteger),
    Column("api_job_id", text_type()),
    Column("client_job_id", text_type()),
    Column("client_message_id", text_type()),
    Column("recipient", text_type()),
    Column("sender", text_type()),
    Column("source", text_type(), nullable=False),
    Column("raw", text_type(), nullable=False),
    Index("callbacks_statuses_message_id", "message_id"),
    Index("callbacks_statuses_received_at", "received_at"),
)

# One row for each reply.
replies: Final = Table(
    "callbacks_replies",
    metadata,
    Column("event_id", text_type(), primary_key=True),
    Column("reply_message_id", text_type(), nullable=False),
    Column("req_uuid", text_type()),
    Column("orig_message_id", text_type()),
    Column("api_job_id", text_type()),
    Column("client_job_id", text_type()),
    Column("channel", text_type()),
    Column("occurred_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    Column("sender", text_type()),
    Column("sender_key", text_type()),
    Column("recipient", text_type()),
    Column("text", text_type()),
    Column("source", text_type(), nullable=False),
    Column("raw", text_type(), nullable=False),
    Index("callbacks_replies_orig_message_id", "orig_message_id"),
    Index("callbacks_replies_api_job_id", "api_job_id", "sender_key"),
    Index("callbacks_replies_received_at", "received_at"),
)

# One row for each number that opted out of messages or in again, with its latest wish (the handler `optout`).
opt_outs: Final = Table(
    "callbacks_opt_outs",
    metadata,
    Column("number_key", text_type(), primary_key=True),
    Column("number", text_type()),
    Column("opted_out", Boolean, nullable=False),
    Column("changed_at", UtcTime),
    Column("source", text_type(), nullable=False),
    Column("channel", text_type()),
    Column("recipient", text_type()),
    Column("keyword", text_type()),
    Column("event_id", text_type()),
    Column("wish_rank", text_type(), nullable=False),
    Index("callbacks_opt_outs_opted_out", "opted_out", "changed_at"),
)

# The random key of the digests that stand for forgotten numbers in opt-outs, made when it is needed first.
digest_keys: Final = Table(
    "callbacks_digest_keys",
    metadata,
    Column("name", text_type(), primary_key=True),
    Column("key", text_type(), nullable=False),
)
