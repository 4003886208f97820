"""The operations of `/api` that read the tables of the handler `sql`: messages, events, jobs and totals.

They need no Redis, but for where each event is at its handlers, which is left out while Redis is unavailable, and for
whole numbers, which nobody sees without an entry in the action log.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import redis

from callbacks.ops.api.history_forms import (
    EventsPage,
    EventsQuery,
    JobsList,
    JobsQuery,
    MessageQuery,
    MessagesPage,
    MessagesQuery,
    MessageTimeline,
    StatsQuery,
)
from callbacks.ops.api.operations import Operation
from shared.settings import Settings
from workers.admin.message_forms import EventDeliveriesForm
from workers.admin.number_views import NumberViews
from workers.handlers.sql.history_results import Stats

if TYPE_CHECKING:
    from callbacks.ops.api.history_reader import HistoryReader


def operations(client: redis.Redis, settings: Settings, number_views: NumberViews) -> Sequence[Operation]:
    """Return the operations."""

    @functools.cache
    def reader() -> "HistoryReader":
        # SQLAlchemy takes 16 MiB: the first request loads it.
        from callbacks.ops.api.history_reader import HistoryReader  # noqa: PLC0415

        return HistoryReader(client, settings, number_views)

    return (
        Operation(
            name="messages",
            path="/api/messages",
            summary="List messages with their current status, the latest report first; overdue ones, the oldest first.",
            call=lambda call: reader().list_messages(call),
            query=MessagesQuery,
            results=(MessagesPage,),
            problems=(403,),
        ),
        Operation(
            name="message",
            path="/api/messages/{id:path}",
            summary="Show a message by its id, the client's id or that of its job; or where an event is, by its id.",
            call=lambda call: reader().show_message(call),
            query=MessageQuery,
            results=(MessageTimeline, EventDeliveriesForm),
            problems=(403, 404, 409),
        ),
        Operation(
            name="events",
            path="/api/events",
            summary="List events, the one received last first.",
            call=lambda call: reader().list_events(call),
            query=EventsQuery,
            results=(EventsPage,),
            problems=(403,),
        ),
        Operation(
            name="stats",
            path="/api/stats",
            summary="Count messages by current status, for each day and job.",
            call=lambda call: reader().stats(call),
            query=StatsQuery,
            results=(Stats,),
        ),
        Operation(
            name="jobs",
            path="/api/jobs",
            summary="List jobs with how many of their messages are final, overdue and delivered.",
            call=lambda call: reader().list_jobs(call),
            query=JobsQuery,
            results=(JobsList,),
        ),
    )
