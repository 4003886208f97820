"""What `callbacks message`, `messages`, `jobs` and `stats` share: the database, times, and JSON on one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from callbacks.ops.status import overdue
from shared import settings
from shared.errors import ConfigurationError
from shared.events import rfc3339
from workers.admin.message_forms import to_plain
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
def open_connection(*, handler: str = "sql") -> Iterator["Connection"]:
    """Open the database of the settings to read what `handler` wrote. An error of it ends the command with exit 1."""
    try:
        with history.open_connection(database_address(), handler=handler) as connection:
            yield connection
    except DatabaseUnavailable as exc:
        raise click.ClickException(str(exc)) from exc


def database_address() -> DatabaseUrl:
    """Return the database of the settings. Raise ConfigurationError."""
    try:
        return DatabaseUrl.parse(settings.load(process="history").database_url)
    except ValueError as exc:
        raise ConfigurationError([str(exc)]) from exc


def overdue_before() -> datetime:
    """Return before when the first report of a message came that is overdue now if it has no final status."""
    return overdue.overdue_before(settings.load(process="history"))


def to_json(value: msgspec.Struct) -> bytes:
    """Return one line of JSON, with times in RFC 3339."""
    return msgspec.json.encode(to_plain(value))


def format_time(time: datetime | None) -> str:
    """Return a time for people, in a fixed width; "-" if it is unknown."""
    return f"{'-' if time is None else rfc3339(time):24}"
