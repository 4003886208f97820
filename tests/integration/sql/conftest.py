"""Fixtures of the handler `sql`: an empty database of each kind."""

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
    """Return the session's server. A test that stops it has to start it again."""
    return _session_postgres


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Yield a function that returns an empty database of one kind."""
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
    """Return an empty database of each kind in turn."""
    return new_database(request.param)
