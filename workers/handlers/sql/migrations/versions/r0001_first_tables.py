"""The first tables: messages, their statuses, replies, opt-outs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them, with the indexes that the commands need."""
    op.create_table(
        "callbacks_messages",
        sa.Column("message_id", _TEXT, primary_key=True),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("status_at", _TIME),
        sa.Column("channel", _TEXT),
        sa.Column("error_code", sa.BigInteger),
        sa.Column("api_job_id", _TEXT),
        sa.Column("client_job_id", _TEXT),
        sa.Column("client_message_id", _TEXT),
        sa.Column("recipient", _TEXT),
        sa.Column("recipient_key", _TEXT),
        sa.Column("sender", _TEXT),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("accepted_at", _TIME),
        sa.Column("delivered_at", _TIME),
        sa.Column("first_at", _TIME),
        sa.Column("last_at", _TIME),
        sa.Column("first_received_at", _TIME, nullable=False),
        sa.Column("last_received_at", _TIME, nullable=False),
        sa.Column("status_rank", _TEXT, nullable=False),
    )
    _index("messages", "client_message_id")
    _index("messages", "api_job_id", "recipient_key")
    _index("messages", "client_job_id")
    _index("messages", "recipient_key", "last_received_at")
    _index("messages", "status", "last_received_at")
    _index("messages", "first_received_at")
    _index("messages", "last_received_at")
    op.create_index(
        "callbacks_messages_not_final",
        "callbacks_messages",
        ["first_received_at"],
        sqlite_where=sa.text("is_final IS 0"),
        postgresql_where=sa.text("is_final IS false"),
    )
    op.create_table(
        "callbacks_statuses",
        sa.Column("event_id", _TEXT, primary_key=True),
        sa.Column("message_id", _TEXT, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("channel", _TEXT),
        sa.Column("occurred_at", _TIME),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("error_code", sa.BigInteger),
        sa.Column("api_job_id", _TEXT),
        sa.Column("client_job_id", _TEXT),
        sa.Column("client_message_id", _TEXT),
        sa.Column("recipient", _TEXT),
        sa.Column("sender", _TEXT),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("raw", _TEXT, nullable=False),
    )
    _index("statuses", "message_id")
    _index("statuses", "received_at")
    op.create_table(
        "callbacks_replies",
        sa.Column("event_id", _TEXT, primary_key=True),
        sa.Column("reply_message_id", _TEXT, nullable=False),
        sa.Column("req_uuid", _TEXT),
        sa.Column("orig_message_id", _TEXT),
        sa.Column("api_job_id", _TEXT),
        sa.Column("client_job_id", _TEXT),
        sa.Column("channel", _TEXT),
        sa.Column("occurred_at", _TIME),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("sender", _TEXT),
        sa.Column("sender_key", _TEXT),
        sa.Column("recipient", _TEXT),
        sa.Column("text", _TEXT),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("raw", _TEXT, nullable=False),
    )
    _index("replies", "orig_message_id")
    _index("replies", "api_job_id", "sender_key")
    _index("replies", "received_at")
    op.create_table(
        "callbacks_opt_outs",
        sa.Column("number_key", _TEXT, primary_key=True),
        sa.Column("number", _TEXT),
        sa.Column("opted_out", sa.Boolean, nullable=False),
        sa.Column("changed_at", _TIME),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("channel", _TEXT),
        sa.Column("recipient", _TEXT),
        sa.Column("keyword", _TEXT),
        sa.Column("event_id", _TEXT),
        sa.Column("wish_rank", _TEXT, nullable=False),
    )
    _index("opt_outs", "opted_out", "changed_at")
    op.create_table(
        "callbacks_digest_keys",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("key", _TEXT, nullable=False),
    )


def downgrade() -> None:
    """Raise NotImplementedError: an older schema would lose data."""
    raise NotImplementedError("the schema cannot be downgraded: restore a backup")


def _index(table: str, column: str, *more: str) -> None:
    op.create_index(f"callbacks_{table}_{column}", f"callbacks_{table}", [column, *more])
