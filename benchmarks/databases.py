"""The databases that the handler `sql` is measured with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres_server import PostgresServer, binaries


def missing(kind: str) -> str:
    """Say that there is no such database here; '' if there is."""
    return "there is no PostgreSQL" if kind == "PostgreSQL" and binaries() is None else ""


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a new database: of a PostgreSQL server of its own, without fsync, or of SQLite in `folder`."""
    if kind == "PostgreSQL":
        with PostgresServer() as server:
            yield server.new_database()
    else:
        yield f"sqlite:///{folder}/callbacks.db"
