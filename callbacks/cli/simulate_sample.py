"""`callbacks simulate --sample NAME`: sends one event, prints what was sent and the answer.

Exit 0 if the receiver accepted it, 1 if not, 2 for wrong usage.
"""

import asyncio
import hashlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec
from msgspec import Struct

from callbacks import Event, ReportEvent, samples
from callbacks.cli import simulate_failure
from callbacks.cli.sample_name import SampleName
from callbacks.cli.terminal_text import short
from callbacks.simulator.callback import DOCUMENTED_HEADERS
from callbacks.simulator.delivery import Attempt
from callbacks.simulator.http_client import open_session, post
from callbacks.simulator.options import DeliveryOptions
from callbacks.simulator.receiver_urls import ReceiverUrls
from shared.events import known_status

# The options of the event itself, and what they say of which kind.
FIELDS: Final = ("message_id", "client_message_id", "status", "channel", "number", "text")
_REPORTS_ONLY: Final = ("client_message_id", "status")
_REPLIES_ONLY: Final = ("text",)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_OPTIONS: Final = (
    click.option(
        "--sample",
        type=SampleName(),
        metavar="NAME",
        help=f"Send one event at once instead of a campaign: {', '.join(samples.NAMES)}.",
    ),
    click.option(
        "--message-id",
        metavar="ID",
        help="The event's message id. The same again, with the same options on the same day (UTC), is a repeat.  "
        "[default: new]",
    ),
    click.option("--client-message-id", metavar="ID", help="The event's client_message_id (reports)."),
    click.option("--status", help="The event's status, such as UNDELIV (reports)."),
    click.option("--channel", help="The event's channel, such as SMS or VIBER."),
    click.option("--number", help="The phone number that the message went to, or that the reply came from."),
    click.option("--text", help="The event's text (replies)."),
)


class SentSample(Struct, frozen=True):
    """One event that was posted, and the end of the attempt."""

    event: Event
    body: dict[str, Any]
    attempt: Attempt
    answer: bytes


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of one event to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_event(name: str, given: dict[str, str | None]) -> Event:
    """Return the sample with the values of the options. Raise UsageError for one that it cannot have."""
    is_report = isinstance(samples.one(name), ReportEvent)
    for field in _REPLIES_ONLY if is_report else _REPORTS_ONLY:
        if given[field] is not None:
            option, kind = field.replace("_", "-"), "report" if is_report else "reply"
            raise click.UsageError(f"--{option} cannot be set for the sample {name!r}, which is a {kind}.")
    set_fields = {
        "message_id" if is_report else "reply_message_id": given["message_id"],
        "client_message_id": given["client_message_id"],
        "status": None if given["status"] is None else known_status(given["status"]),
        "channel": given["channel"],
        "recipient" if is_report else "sender": given["number"],
        "text": given["text"],
    }
    fields: dict[str, Any] = {field: value for field, value in set_fields.items() if value is not None}
    try:
        event = samples.one(name, **fields)
        return event if given["message_id"] is None else samples.one(name, **_repeatable(event, given, fields))
    except ValueError as exc:
        raise click.UsageError(f"No callback can have these values: {short(str(exc))}") from exc


def send(event: Event, urls: ReceiverUrls, delivery: DeliveryOptions) -> SentSample:
    """Post the event once. Raise InvalidOption for an unusable CA file."""
    body = samples.callback(event)

    async def attempt() -> tuple[Attempt, bytes]:
        async with open_session(delivery) as session:
            url = urls.url("status" if event.kind == "report" else "reply")
            return await post(session, url, msgspec.json.encode(body), DOCUMENTED_HEADERS)

    return SentSample(event, body, *asyncio.run(attempt()))


def show(sent: SentSample, urls: ReceiverUrls, *, as_json: bool) -> None:
    """Print what was sent and what was answered, and exit."""
    status, error = _read_answer(sent.answer)
    is_accepted = sent.attempt.reason is None and status != "quarantined"
    if as_json:
        result = {"url": urls.redacted_url, "sent": sent.body, "status": sent.attempt.status, "accepted": is_accepted}
        click.echo(msgspec.json.encode({**result, "reason": sent.attempt.reason or error or None}))
        sys.exit(int(not is_accepted))
    click.echo(f"{'sent':9} {_describe(sent.event)} to {urls.redacted_url}")
    if is_accepted:
        click.echo(f"{'answered':9} {f'200 {status}'.rstrip()}")
        sys.exit(0)
    if sent.attempt.reason is None:
        click.echo(f"{'answered':9} 200 {status}: {error}", err=True)
    else:
        said = f" ({error})" if error else ""
        verb = "failed" if sent.attempt.status is None else "answered"
        click.echo(f"{verb:9} {sent.attempt.reason}{said}", err=True)
        click.echo(simulate_failure.advice(sent.attempt.reason), err=True)
    sys.exit(1)


def _repeatable(event: Event, given: dict[str, str | None], fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with all else that identifies an event, the same for each call with the same message id.

    A report is identified by its message id, number, time and more (see `shared.events.report_id`).
    """
    known = "recipient" if isinstance(event, ReportEvent) else "sender"
    fields = dict(fields)
    if given["number"] is None and getattr(event, known) is not None:
        digest = hashlib.sha256(str(given["message_id"]).encode()).digest()
        fields[known] = f"35600{int.from_bytes(digest[:4]) % 10**6:06}"
    if event.occurred_at is not None:
        fields["occurred_at"] = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return fields


def _describe(event: Event) -> str:
    channel = "" if event.channel is None else f" on {short(event.channel)}"
    if isinstance(event, ReportEvent):
        number = "" if event.recipient is None else f", to {short(event.recipient)}"
        return f"report {short(event.status)}{channel}, message {short(event.message_id)}{number}"
    number = "" if event.sender is None else f", from {short(event.sender)}"
    text = "no text" if event.text is None else f"“{short(event.text)}”"
    return f"reply{channel}, {text}, message {short(event.reply_message_id or '-')}{number}"


class _AnswerBody(Struct):
    """What the service answers: a status and an error, or a problem document with a number and a detail."""

    status: str | int = ""
    error: str = ""
    detail: str = ""


def _read_answer(answer: bytes) -> tuple[str, str]:
    """Return the status in words, and what is wrong; empty if the answer is not this service's."""
    try:
        read = msgspec.json.decode(answer, type=_AnswerBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    return (short(read.status) if isinstance(read.status, str) else ""), short(read.error or read.detail)
