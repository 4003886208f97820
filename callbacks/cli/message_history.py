"""What `callbacks message`, `messages` and `stats` share: opening the history, times, and their JSON."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
import msgspec

from shared import settings
from shared.errors import ConfigurationError
from shared.events import rfc3339
from workers.handlers.sql import history
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.errors import DatabaseUnavailable


@contextmanager
def open_history() -> Iterator[history.History]:
    """Open the history in the database of the settings. An error of the database ends the command with exit code 1."""
    try:
        address = DatabaseUrl.parse(settings.load().database_url)
    except ValueError as exc:
        raise ConfigurationError([str(exc)]) from exc
    try:
        with history.open_history(address) as found:
            yield found
    except DatabaseUnavailable as exc:
        raise click.ClickException(str(exc)) from exc


def to_json(value: msgspec.Struct) -> bytes:
    """Return one line of JSON, with times in RFC 3339."""
    return msgspec.json.encode(_to_plain(value))


def format_time(time: datetime | None) -> str:
    """Return a time for people, in a fixed width; "-" if it is unknown."""
    return f"{'-' if time is None else rfc3339(time):24}"


def _to_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: _to_plain(getattr(value, name)) for name in value.__struct_fields__}
    return value
