"""CALLBACKS_CELLS: the cells of a service, each a Redis with its own web processes and workers.

    name=redis-url,name=redis-url

A URL of Sentinels has commas of its own, so a URL ends only at a comma with `name=` after it.
"""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from shared import connections, redis_url

_NAME: Final = r"[A-Za-z0-9_.-]{1,64}"
_BETWEEN: Final = re.compile(rf",(?=\s*{_NAME}=)")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's name, as logs, metrics and pages show it, and the URL of its Redis."""

    name: str
    redis_url: str = field(repr=False)

    @property
    def redacted_url(self) -> str:
        """The URL without user, password and options."""
        return connections.redact_url(self.redis_url)

    def is_at(self, url: str) -> bool:
        """Return whether `url` names this cell's database, with whatever user, password and options."""
        return _database(self.redis_url) == _database(url)


def parse_cells(value: str) -> tuple[Cell, ...]:
    """Return the cells that `value` names. Raise ValueError, whose message holds no secret."""
    cells: list[Cell] = []
    for position, part in enumerate(_BETWEEN.split(value) if value else (), start=1):
        name, equals, url = part.strip().partition("=")
        # What has no scheme may be the rest of a password, of which nothing may be quoted.
        if not equals or not re.fullmatch(_NAME, name) or ("@" in url and "://" not in url):
            raise ValueError(
                f"entry {position} must be name=redis-url; a name has letters, digits, '_', '.' and '-'; "
                "in a password write the characters , and = as %2C and %3D"
            )
        try:
            connections.check_url(url)
        except ValueError as exc:
            raise ValueError(f"the URL of cell {name!r} {exc}") from None
        for other in cells:
            if other.name == name:
                raise ValueError(f"two cells have the name {name!r}; give each a name of its own")
            if other.is_at(url):
                raise ValueError(f"cells {other.name!r} and {name!r} have the same Redis; a cell has one of its own")
        cells.append(Cell(name, url))
    return tuple(cells)


def _database(url: str) -> object:
    """Return what is equal for two URLs of one database."""
    address = redis_url.parse(url)
    service = address.sentinel
    if service is not None:
        return sorted(service.nodes), service.service, service.redis_options["db"]
    parts = urlsplit(address.url)
    if address.scheme == "unix":
        return parts.path, address.options.get("db", 0)
    database = int(unquote(parts.path.strip("/")) or address.options.get("db", 0))
    return parts.hostname or "localhost", parts.port or 6379, database
