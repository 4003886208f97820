"""The JSON forms of what is known of messages, the same for commands and for `/api`; numbers are masked by default.

A value of the handler `sql` becomes an object with its fields, times in RFC 3339. Nothing here needs its libraries.
"""

import json
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from shared.events import rfc3339
from workers.admin.delivery_history import DeliveryAttempt
from workers.admin.event_status import EventDelivery, EventStatus
from workers.deliver.delivery_log import AttemptResult
from workers.handlers.mask import mask_fields, mask_record, mask_text
from workers.handlers.number_mask import mask_number

if TYPE_CHECKING:
    from workers.handlers.sql.history_results import Message, Reply, Timeline

Numbers: TypeAlias = Literal["masked", "full"]

# By these a message is looked up and linked to; the gateway makes them of nothing that a person has.
_GATEWAY_IDS: Final = ("message_id", "reply_message_id", "orig_message_id", "api_job_id", "event_id")


class AttemptForm(Struct, frozen=True, kw_only=True):
    """One attempt to deliver an event. `call_ms` is how long the call took, `next_at` when the next attempt was due.

    `answer` is what the target answered that took the event.
    """

    at: datetime
    result: AttemptResult
    attempt: int
    attempts: int
    call_ms: int | None
    error: str
    answer: str
    next_at: datetime | None


class DeliveryForm(Struct, frozen=True, kw_only=True):
    """Where an event is at a handler, what that may mean, and every attempt to deliver it."""

    handler: str
    event_id: str
    status: EventStatus
    explanation: str
    attempts: list[AttemptForm]


class EventDeliveriesForm(Struct, frozen=True, kw_only=True):
    """Where an event is of which nothing else is known."""

    event_id: str
    deliveries: list[DeliveryForm]


def to_plain(value: Any) -> Any:
    """Return a value that msgspec encodes as JSON in its one form: structs as objects, times in RFC 3339."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, Struct):
        return {name: to_plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def delivery_form(delivery: EventDelivery) -> DeliveryForm:
    """Return the JSON form of a delivery."""
    return DeliveryForm(
        handler=delivery.handler,
        event_id=delivery.event_id,
        status=delivery.status,
        explanation=delivery.explanation,
        attempts=list(map(attempt_form, delivery.attempts)),
    )


def attempt_form(attempt: DeliveryAttempt) -> AttemptForm:
    """Return the JSON form of an attempt."""
    return AttemptForm(**{name: getattr(attempt, name) for name in AttemptForm.__struct_fields__})


def shown_number(number: str | None, numbers: Numbers) -> str | None:
    """Return a number masked or in full; None for None."""
    return number if number is None or numbers == "full" else mask_number(number)


def mask_message(message: "Message", numbers: Numbers) -> "Message":
    """Return a message with its phone numbers masked or in full, wherever it has them but in the gateway's ids."""
    return message if numbers == "full" else mask_fields(message, _numbers_of(message), but=_GATEWAY_IDS)


def mask_timeline(timeline: "Timeline", numbers: Numbers) -> "Timeline":
    """Return a timeline with its phone numbers and texts masked or in full, in the records too."""
    if numbers == "full":
        return timeline
    known = _numbers_of(timeline.message)
    return msgspec.structs.replace(
        timeline,
        message=mask_message(timeline.message, numbers),
        statuses=[
            msgspec.structs.replace(mask_fields(one, known, but=_GATEWAY_IDS), raw=_mask_raw(one.raw, known, "report"))
            for one in timeline.statuses
        ],
        replies=[_mask_reply(one, known) for one in timeline.replies],
    )


def _mask_reply(reply: "Reply", known: Collection[str]) -> "Reply":
    numbers = {*known, *_numbers_of(reply)}
    return msgspec.structs.replace(
        mask_fields(reply, numbers, but=(*_GATEWAY_IDS, "text")),
        text=mask_text(reply.text),
        raw=_mask_raw(reply.raw, numbers, "reply"),
    )


def _numbers_of(item: "Message | Reply") -> set[str]:
    return {number for number in (item.recipient, item.sender) if number is not None}


def _mask_raw(raw: msgspec.Raw, numbers: Collection[str], kind: Literal["report", "reply"]) -> msgspec.Raw:
    # The standard library's JSON keeps every integer and every lone surrogate that a sender may have written.
    record = json.loads(bytes(raw))
    return msgspec.Raw(json.dumps(mask_record(record, numbers, texts=kind), separators=(",", ":")).encode())
