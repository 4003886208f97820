"""Messages without a final status although their first report came long ago.

Only messages of which at least one report was received are known here. One that the gateway never reported on is in no
table.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, func, select

from workers.handlers.sql.conditions import is_overdue
from workers.handlers.sql.tables import messages

# What has been overdue for longer is in the total, and no reason to act any more.
RECENT: Final = timedelta(days=7)


class OverdueCount(Struct, frozen=True, kw_only=True):
    """How many messages are overdue; and of the `recent_messages` first reported in the week before, how many are."""

    messages: int
    recent_messages: int
    recent_overdue: int


def count_overdue(connection: Connection, *, first_before: datetime) -> OverdueCount:
    """Count the messages without a final status whose first report came before then."""
    is_recent = messages.c.first_received_at >= first_before - RECENT
    counted = select(func.count()).select_from(messages)
    queries = (
        counted.where(is_overdue(first_before)),
        counted.where(is_recent, messages.c.first_received_at < first_before),
        counted.where(is_recent, is_overdue(first_before)),
    )
    total, recent_messages, recent_overdue = (connection.scalar(query) or 0 for query in queries)
    return OverdueCount(messages=total, recent_messages=recent_messages, recent_overdue=recent_overdue)
