"""What `callbacks message`, `messages`, `jobs` and `stats` share: the database, times, masked numbers, their JSON."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import msgspec

from callbacks.cli.numbers_option import Numbers, shown_number
from shared import settings
from shared.errors import ConfigurationError
from shared.events import rfc3339
from workers.handlers.mask import mask_record
from workers.handlers.sql import history
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.errors import DatabaseUnavailable

if TYPE_CHECKING:  # workers.handlers.sql says which extra is missing
    from sqlalchemy import Connection


@contextmanager
def open_history() -> Iterator[history.History]:
    """Open the history in the database of the settings. An error of the database ends the command with exit code 1."""
    with open_connection() as connection:
        yield history.History(connection)


@contextmanager
def open_connection() -> Iterator["Connection"]:
    """Open the database of the settings to read it. An error of the database ends the command with exit code 1."""
    try:
        address = DatabaseUrl.parse(settings.load(process="history").database_url)
    except ValueError as exc:
        raise ConfigurationError([str(exc)]) from exc
    try:
        with history.open_connection(address) as connection:
            yield connection
    except DatabaseUnavailable as exc:
        raise click.ClickException(str(exc)) from exc


def overdue_before() -> datetime:
    """Return before when the first report of a message came that is overdue now if it has no final status."""
    return datetime.now(UTC) - timedelta(seconds=settings.load(process="history").overdue_seconds)


def to_json(value: msgspec.Struct) -> bytes:
    """Return one line of JSON, with times in RFC 3339."""
    return msgspec.json.encode(_to_plain(value))


def mask_message(message: history.Message, numbers: Numbers) -> history.Message:
    """Return a message with its phone numbers as the option `--numbers` asks for them."""
    return msgspec.structs.replace(
        message,
        recipient=shown_number(message.recipient, numbers),
        sender=shown_number(message.sender, numbers),
    )


def mask_timeline(timeline: history.Timeline, numbers: Numbers) -> history.Timeline:
    """Return a timeline with its phone numbers as the option `--numbers` asks for them, in the records too."""
    if numbers == "full":
        return timeline
    message = timeline.message
    known = {number for number in (message.recipient, message.sender) if number is not None}
    return msgspec.structs.replace(
        timeline,
        message=mask_message(message, numbers),
        statuses=[msgspec.structs.replace(one, raw=_mask_raw(one.raw, known)) for one in timeline.statuses],
        replies=[
            msgspec.structs.replace(
                one,
                sender=shown_number(one.sender, numbers),
                recipient=shown_number(one.recipient, numbers),
                raw=_mask_raw(one.raw, known),
            )
            for one in timeline.replies
        ],
    )


def format_time(time: datetime | None) -> str:
    """Return a time for people, in a fixed width; "-" if it is unknown."""
    return f"{'-' if time is None else rfc3339(time):24}"


def _mask_raw(raw: msgspec.Raw, numbers: Collection[str]) -> msgspec.Raw:
    # The standard library's JSON keeps every integer and every lone surrogate that a sender may have written.
    record = json.loads(bytes(raw))
    return msgspec.Raw(json.dumps(mask_record(record, numbers), separators=(",", ":")).encode())


def _to_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: _to_plain(getattr(value, name)) for name in value.__struct_fields__}
    return value
