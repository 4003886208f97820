"""The parameters and answers of those operations of `/api` that read the tables of the handler `sql`."""

import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from callbacks import ReplyEvent, ReportEvent
from callbacks.ops.api.parameters import CursorText, Limit, ShownNumbers, Since, Text
from workers.admin.message_forms import DeliveryForm
from workers.handlers.sql.history_results import JobSummary, Message, Timeline


class MessagesQuery(Struct, frozen=True, kw_only=True):
    """Which messages are listed."""

    to: Annotated[Text, Meta(description="The number it was sent to, however it is written.")] | None = None
    status: Annotated[list[Text], Meta(description="The current status; several, if it is repeated.")] = []
    since: Since | None = None
    job: Annotated[Text, Meta(description="The id of the job, the gateway's or the client's.")] | None = None
    overdue: Annotated[bool, Meta(description="Only those without a final status for too long.")] = False
    cursor: CursorText | None = None
    limit: Limit = 50
    numbers: ShownNumbers = "masked"


class MessageQuery(Struct, frozen=True, kw_only=True):
    """How a message is shown."""

    numbers: ShownNumbers = "masked"


class EventsQuery(Struct, frozen=True, kw_only=True):
    """Which events are listed."""

    kind: Literal["report", "reply"] | UnsetType = UNSET
    message: Annotated[Text, Meta(description="The gateway's id of a message.")] | None = None
    since: Since | None = None
    cursor: CursorText | None = None
    limit: Limit = 50
    numbers: ShownNumbers = "masked"


class StatsQuery(Struct, frozen=True, kw_only=True):
    """Since when messages are counted."""

    since: Since = "7d"


class JobsQuery(Struct, frozen=True, kw_only=True):
    """Which jobs are listed."""

    since: Since | None = None
    job: Text | None = None
    limit: Limit = 50


class MessagesPage(Struct, frozen=True, kw_only=True):
    """A page of messages; `next_cursor` is null on the last one."""

    messages: list[Message]
    next_cursor: str | None


class MessageTimeline(Timeline, frozen=True):
    """A message as `callbacks message --json` prints it; `deliveries` is missing while Redis is unavailable."""

    deliveries: list[DeliveryForm] | UnsetType = UNSET


class JobsList(Struct, frozen=True, kw_only=True):
    """Jobs, the one with the newest message first."""

    jobs: list[JobSummary]


def _event_form(kind: str, event: type[Struct]) -> Any:
    """Return the type that documents the JSON form of an event: an event is an array where it is stored."""
    hints = typing.get_type_hints(event)
    fields = [(name, hints[name]) for name in event.__struct_fields__]
    return msgspec.defstruct(event.__name__, fields, kw_only=True, tag_field="kind", tag=kind)


if TYPE_CHECKING:
    _Event: TypeAlias = Any
else:
    _Event = _event_form("report", ReportEvent) | _event_form("reply", ReplyEvent)


class EventsPage(Struct, frozen=True, kw_only=True):
    """A page of events, each as `event.to_json()` has it; `next_cursor` is null on the last one."""

    events: list[_Event]
    next_cursor: str | None
