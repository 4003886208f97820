"""The tables of the handler `sql`, opened to read, where they are in use.

The handler is an extra, and its database may be unavailable: the pages are there without either, and say which it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection


class TablesUnavailable(Exception):
    """The tables cannot be read now; the text says why, and holds no password."""


class TablesEmpty(TablesUnavailable):
    """The tables are not there yet: no event was written."""


@contextmanager
def open_tables(settings: Settings) -> Iterator["Connection"]:
    """Yield a connection to the database in `settings`. Raise TablesUnavailable."""
    try:
        from workers.handlers.sql import history  # noqa: PLC0415
        from workers.handlers.sql.database_url import DatabaseUrl  # noqa: PLC0415
        from workers.handlers.sql.errors import DatabaseUnavailable, NoMessages  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name not in ("sqlalchemy", "alembic"):
            raise
        raise TablesUnavailable(str(exc)) from exc
    try:
        with history.open_connection(DatabaseUrl.parse(settings.database_url)) as connection:
            yield connection
    except NoMessages as exc:
        raise TablesEmpty(str(exc)) from exc
    except (DatabaseUnavailable, ValueError) as exc:
        raise TablesUnavailable(str(exc)) from exc
