"""What `callbacks message`, `messages` and `stats` share: opening the history, times, and their JSON."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import msgspec

from shared import settings
from shared.errors import ConfigurationError
from shared.events import rfc3339
from workers.handlers.sql import history
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.errors import DatabaseUnavailable

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Age(click.ParamType[datetime]):
    """A point in time, written as a duration before now: 90s, 30m, 2h, 7d or 4w."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        if isinstance(value, datetime):
            return value
        found = re.fullmatch(r"([0-9]{1,9})([smhdw])", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a duration: use 90s, 30m, 2h, 7d or 4w", param, ctx)
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            self.fail(f"{value!r} is too long: it is before the year 1", param, ctx)


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
