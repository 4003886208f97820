"""Creates and upgrades the tables with Alembic's steps in `migrations`, by one process at a time.

Everything happens in one transaction under a lock: a process that starts at the same time waits and then finds the
tables ready, and a process that is killed has changed nothing.
"""

from pathlib import Path
from typing import Final, Literal, TypeAlias

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, inspect, select, text

from workers.handlers.sql.errors import SchemaMismatch
from workers.handlers.sql.tables import VERSION_TABLE

SchemaState: TypeAlias = Literal["absent", "older", "current", "newer"]

MIGRATIONS: Final = Path(__file__).parent / "migrations"
# The newest step, which this release works with. A test compares it with the folder.
HEAD: Final = "0001"

# The number of our advisory lock in PostgreSQL: "callback" in ASCII.
_LOCK: Final = int.from_bytes(b"callback")
_version: Final = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))


def prepare(engine: Engine, *, migrations: Path = MIGRATIONS, head: str = HEAD) -> None:
    """Create or upgrade the tables to those of this release.

    Raise SchemaMismatch if the tables are newer or the encoding cannot store all texts, and SQLAlchemyError.
    """
    with engine.begin() as connection:  # in SQLite this is the lock
        if problem := find_encoding_problem(connection):
            raise SchemaMismatch(problem)
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT set_config('statement_timeout', '0', true)"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        state = read_state(connection, migrations=migrations, head=head)
        if state == "newer":
            raise SchemaMismatch(newer_schema_text(connection, head=head))
        if state != "current":
            _upgrade(connection, migrations)


def read_state(connection: Connection, *, migrations: Path = MIGRATIONS, head: str = HEAD) -> SchemaState:
    """Return how the tables compare with this release; change nothing."""
    found = _revision(connection)
    if found is None:
        return "absent"
    if found == head:
        return "current"
    return "older" if found in _known_revisions(migrations) else "newer"


def find_encoding_problem(connection: Connection) -> str:
    """Return why a database cannot store all texts; "" if it can."""
    if connection.dialect.name == "postgresql":
        encoding = connection.scalar(text("SHOW server_encoding"))
        if encoding != "UTF8":
            return f"its encoding is {encoding}, which cannot store all texts: CREATE DATABASE … ENCODING 'UTF8'"
    return ""


def newer_schema_text(connection: Connection, *, head: str = HEAD) -> str:
    """Return the message for tables of a newer release."""
    return (
        f"its tables are of a newer release (schema {_revision(connection)}; this release has {head}): "
        "start the newer release or use another database"
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(select(_version.c.version_num))


# Importing Alembic takes 0.2 s, so it is imported only when the schema changes.
def _known_revisions(migrations: Path) -> frozenset[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return frozenset(script.revision for script in ScriptDirectory(str(migrations)).walk_revisions())


def _upgrade(connection: Connection, migrations: Path) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
