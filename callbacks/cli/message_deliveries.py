"""What became of events at each handler, for `callbacks message`: where each is, and every attempt to deliver it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import click
import redis

from callbacks.cli.redis_connection import open_redis
from callbacks.cli.terminal_text import short
from callbacks.ops.status.quantities import format_duration
from shared.errors import ConfigurationError
from shared.events import rfc3339
from workers.admin import event_status
from workers.admin.delivery_history import DeliveryAttempt
from workers.admin.event_status import EventDelivery, EventStatus, HandlerEventStatuses

_WORDS: Final[Mapping[EventStatus, str]] = {
    "dead": "dead letter",
    "waiting": "waiting in the queue",
    "running": "being delivered now",
    "scheduled": "failed, retry scheduled",
    "delivered": "delivered",
}


class Deliveries:
    """The deliveries of events, by the event's id. `problem` says why they are not known; it is empty otherwise."""

    def __init__(self, found: Mapping[str, Sequence[EventDelivery]] | None = None, *, problem: str = "") -> None:
        self.problem = problem
        self._by_event = found or {}

    def of(self, event_ids: Iterable[str]) -> list[EventDelivery]:
        """Return the deliveries of these events."""
        return [one for event_id in event_ids for one in self._by_event.get(event_id, ())]


def read_deliveries(event_ids: Mapping[str, int]) -> Deliveries:
    """Return the deliveries of events that `sql` has; `event_ids`: when each was received, in ms since 1970."""
    return _read(lambda client: event_status.find_statuses(client, event_ids), kept_by="sql")


def read_event(event_id: str) -> Deliveries:
    """Return the deliveries of an event of which nothing else is known; none if this is not an event's id."""
    return _read(lambda client: event_status.find_event(client, event_id))


def _read(find: Callable[[redis.Redis], Iterable[HandlerEventStatuses]], *, kept_by: str = "") -> Deliveries:
    try:
        with open_redis("history") as (_, client):
            return Deliveries(event_status.group_by_event(find(client), kept_by=kept_by))
    except ConfigurationError as exc:
        return Deliveries(problem=str(exc))
    except click.ClickException as exc:
        return Deliveries(problem=exc.message)


def as_lines(deliveries: Iterable[EventDelivery]) -> Iterator[str]:
    """Yield the lines that a person reads."""
    for one in deliveries:
        words = one.explanation or _WORDS[one.status]
        last = one.attempts[-1] if one.attempts else None
        if one.status == "delivered" and last is not None:
            words += f" {rfc3339(last.at)}{_took(last)}{_answer(last)}"
        yield f"{short(one.handler):12} {words}"
        if last is None or (len(one.attempts) == 1 and last.result == "delivered"):
            continue
        yield from (f"{'':12}   {line}" for line in attempt_lines(one.attempts))


def attempt_lines(attempts: Iterable[DeliveryAttempt]) -> Iterator[str]:
    """Yield a line for each attempt."""
    for attempt in attempts:
        failed = f"failed{_took(attempt)}" + (f": {short(attempt.error)}" if attempt.error else "")
        after = "given up on" if attempt.next_at is None else f"next attempt due {rfc3339(attempt.next_at)}"
        result = (
            f"delivered{_took(attempt)}{_answer(attempt)}" if attempt.result == "delivered" else f"{failed}; {after}"
        )
        yield f"{rfc3339(attempt.at)}  attempt {attempt.attempt} of {attempt.attempts}  {result}"


def _answer(attempt: DeliveryAttempt) -> str:
    return f": {short(attempt.answer)}" if attempt.answer else ""


def _took(attempt: DeliveryAttempt) -> str:
    if attempt.call_ms is None:
        return ""
    return f" in {format_duration(attempt.call_ms / 1000) if attempt.call_ms else 'less than 1 ms'}"
