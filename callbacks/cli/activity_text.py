"""The words in which `callbacks dev` says what happened to an event."""

from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from callbacks.cli.event_line import COLOURS
from callbacks.cli.terminal_text import printable, short
from shared.counted import counted
from workers.activity import CallResult, EventLabel, PauseChanged, RepeatedEvent, UnreadableRecords
from workers.handlers.mask import MASK, mask_fields

_SECONDS_OF_A_MINUTE: Final = 60
# Below this, minutes or hours would say too little: "again in 90 s".
_MAX_OF_A_UNIT: Final = 120


def clock(moment: datetime, *, now: datetime) -> str:
    """Return a time in UTC, with its day if that is not today's."""
    moment = moment.astimezone(UTC)
    return f"{moment:%H:%M:%SZ}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%SZ}"


def describe_event(event: EventLabel, *, masked: bool, is_new: bool) -> str:
    """Return the kind, the message, its status and its channel; of a new event also what else a person wants to see."""
    if masked:
        event = msgspec.structs.replace(mask_fields(event, (event.number,)), text=MASK if event.text else "")
    words = [event.kind, printable(event.message_id)]
    if event.status:
        words.append(click.style(printable(event.status), fg=COLOURS.get(event.status, "red")))
    words.append(printable(event.channel))
    if is_new and event.error_code:
        words.append(f"error {event.error_code}")
    if is_new and event.kind == "reply":
        words.append(f"{printable(event.number) or '?'}: {short(event.text)}")
    return " ".join(filter(None, words))


def describe_result(result: CallResult) -> str:
    """Return the handler, and what became of the event there."""
    error = printable(result.error)
    if result.outcome == "delivered":
        took = "" if result.call_ms is None else f" {duration(result.call_ms / 1000)}"
        attempt = f", attempt {result.attempt}" if result.attempt > 1 else ""
        return f"{result.handler} {click.style('✓', fg='green')}{took}{attempt}"
    if result.outcome == "retried":
        again = duration(max(result.after_seconds or 0, 0), is_call=False)
        return f"{result.handler} {click.style('✗', fg='red')} {error or 'Retry'}, again in {again}"
    dead = click.style("dead", fg="red", bold=True)
    if result.is_rejected:
        return f"{result.handler} {dead}, rejected: {error or 'no reason given'}"
    return f"{result.handler} {dead} after {counted(result.attempt, 'attempt')}: {error or 'no reason given'}"


def describe_repeat(repeat: RepeatedEvent, first_at: datetime | None, *, now: datetime) -> str:
    """Return which event it repeats."""
    kind = repeat.event.kind
    what = f"an earlier {kind}" if first_at is None else f"the {kind} at {clock(first_at, now=now)}"
    return f"repeat of {what}: not delivered again"


def describe_pause(change: PauseChanged) -> str:
    """Return that a handler was paused or resumed."""
    seconds = duration(change.seconds, is_call=False)
    if not change.is_paused:
        return f"{change.handler} resumed after {seconds}"
    reason = printable(change.reason)
    return f"{change.handler} {click.style('paused', fg='yellow')} for {seconds}{f': {reason}' if reason else ''}"


def describe_unreadable(records: UnreadableRecords) -> str:
    """Return what cannot be read, and where it is now."""
    what = "callback" if records.kind == "unknown" else records.kind
    number = f"{what} cannot" if records.records == 1 else f"{records.records:,} {what} records cannot"
    return f"{number} be read: {short(records.error)}; see `callbacks quarantine list`"


def duration(seconds: float, *, is_call: bool = True) -> str:
    """Return a duration in the unit that suits it: of a call from 1 ms on, of a wait in whole seconds."""
    if is_call and seconds < 1:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < _MAX_OF_A_UNIT:
        return f"{seconds:.1f} s" if is_call else f"{seconds:.0f} s"
    minutes = seconds / _SECONDS_OF_A_MINUTE
    return f"{minutes:.0f} min" if minutes < _MAX_OF_A_UNIT else f"{minutes / 60:.0f} h"
