"""What happens to each event, as it happens, for `callbacks dev`, which prints it.

Workers publish it on a channel of their Redis if `callbacks dev` has started them, and so has set VARIABLE in their
environment. In all other workers nothing of this exists. What a handler raised is masked as in the log (I9); whole
numbers and texts of replies stay in the private Redis of `callbacks dev`, which masks numbers before it prints them.
"""

import contextlib
import os
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, Self, TypeAlias

import msgspec
import redis
from msgspec import Struct

from shared.events import Event, ReportEvent

VARIABLE: Final = "_CALLBACKS_ACTIVITY"
CHANNEL: Final = "cb:activity"
# A message of 2 MB at most, even if each event has the longest error text.
_MAX_ITEMS: Final = 1000


class EventLabel(Struct, frozen=True, array_like=True):
    """What a line says of an event."""

    id: str
    kind: Literal["report", "reply"]
    message_id: str
    status: str
    channel: str
    number: str
    text: str
    error_code: int | None
    received_at: datetime

    @classmethod
    def from_event(cls, event: Event) -> Self:
        """Return the label of an event; what it does not have is empty."""
        if isinstance(event, ReportEvent):
            message_id, status, number, text = event.message_id, event.status, event.recipient, ""
        else:
            message_id = event.reply_message_id or event.req_uuid or ""
            status, number, text = "", event.sender, event.text or "(no text)"
        return cls(
            event.id,
            event.kind,
            message_id,
            status,
            event.channel or "",
            number or "",
            text,
            event.error_code if isinstance(event, ReportEvent) else None,
            event.received_at,
        )


class NewEvent(Struct, frozen=True, array_like=True, tag="new"):
    """An event was enqueued for these handlers."""

    event: EventLabel
    handlers: tuple[str, ...]


class RepeatedEvent(Struct, frozen=True, array_like=True, tag="repeat"):
    """An event was received again, and is not delivered."""

    event: EventLabel


class UnreadableRecords(Struct, frozen=True, array_like=True, tag="unreadable"):
    """Records were quarantined."""

    kind: str
    records: int
    error: str


class CallResult(Struct, frozen=True, array_like=True, tag="call"):
    """What became of an event at a handler.

    `error`: what the handler raised or said. `after_seconds` is when a retry is due. `call_ms` is how long the call
    took, None without one. `is_rejected`: no attempt that is left would help.
    """

    handler: str
    event: EventLabel
    outcome: Literal["delivered", "retried", "dead"]
    attempt: int
    error: str = ""
    after_seconds: float | None = None
    call_ms: float | None = None
    is_rejected: bool = False


class PauseChanged(Struct, frozen=True, array_like=True, tag="pause"):
    """A handler was paused for `seconds`, or resumed after them."""

    handler: str
    is_paused: bool
    seconds: float
    reason: str


class WorkerReady(Struct, frozen=True, array_like=True, tag="ready"):
    """A worker has loaded its handler, or the filters of all, and begins to work on its queue."""

    queue: str


Activity: TypeAlias = NewEvent | RepeatedEvent | UnreadableRecords | CallResult | PauseChanged | WorkerReady

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Activity])


class ActivityPublisher:
    """Publishes over a worker's connection. What cannot be published is lost: work does not wait for it."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection

    def publish(self, items: Iterable[Activity]) -> None:
        """Publish these, in order."""
        left = list(items)
        with contextlib.suppress(redis.RedisError):
            for start in range(0, len(left), _MAX_ITEMS):
                self._connection.publish(CHANNEL, _encoder.encode(left[start : start + _MAX_ITEMS]))


def is_watched() -> bool:
    """Return whether `callbacks dev` has started this process."""
    return bool(os.environ.get(VARIABLE))


def decode(message: bytes) -> list[Activity]:
    """Return what a message says. Raise msgspec.MsgspecError if it is none of ours."""
    return _decoder.decode(message)
