"""What the tests of the handler `sql` stand on: an empty database of each kind, and what stands in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.sql.databases import Database
from tests.postgres_server import PostgresServer, require

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def _session_postgres() -> Iterator[PostgresServer]:
    require()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(_session_postgres: PostgresServer) -> PostgresServer:
    """Give the session's server. A test that stops it starts it again."""
    return _session_postgres


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Give a function that makes an empty database of one kind."""
    made: list[Database] = []

    def make(kind: str) -> Database:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path}/new folder/{len(made)}.db"
        else:
            url = request.getfixturevalue("postgres").new_schema()
        made.append(Database(url))
        return made[-1]

    yield make
    for database in made:
        database.close()


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, new_database: Callable[[str], Database]) -> Database:
    """Give an empty database, of each kind in turn."""
    return new_database(request.param)
