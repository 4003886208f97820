"""The tables are created and upgraded, and an older release does not touch the tables of a newer one."""

import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from setuptools import find_packages  # type: ignore[import-untyped] # its types are a package of their own

from callbacks import Retry
from tests.integration.sql.databases import REPOSITORY, Database, report
from tests.postgres_server import PostgresServer
from workers.handlers.sql import database_check, history, schema, tables
from workers.handlers.sql.database_url import DatabaseUrl, open_engine
from workers.handlers.sql.errors import SchemaMismatch

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("callbacks_messages", sa.Column("note", sa.Text))
    op.execute("UPDATE callbacks_messages SET note = 'upgraded'")
"""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """Return the folder of a future release's migrations, with one more step."""
    folder = tmp_path / "of 100% newer"
    shutil.copytree(schema.MIGRATIONS, folder)
    (folder / "versions" / "r0002_notes.py").write_text(NEXT)
    return folder


def test_the_steps_create_the_tables_that_the_code_uses(database: Database) -> None:
    engine = open_engine(database.address)
    schema.prepare(engine)
    with engine.begin() as connection:
        # The steps use no types of ours, so Alembic's own comparison of types, columns and indexes is used.
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.VERSION_TABLE, "compare_type": lambda *_: None}
        )
        differences = compare_metadata(context, tables.metadata)
        assert schema.read_state(connection) == "current"
    engine.dispose()
    assert differences == []


def test_the_newest_step_is_the_one_that_the_code_expects() -> None:
    assert max(schema._known_revisions(schema.MIGRATIONS)) == schema.HEAD


def test_the_steps_are_installed_with_the_rest() -> None:
    steps = {str(path.parent.relative_to(REPOSITORY)).replace("/", ".") for path in schema.MIGRATIONS.rglob("*.py")}

    assert steps == {"workers.handlers.sql.migrations", "workers.handlers.sql.migrations.versions"}
    assert steps <= set(find_packages(str(REPOSITORY), include=["workers*"]))


def test_a_newer_release_upgrades_the_tables_of_an_older_one_and_keeps_the_rows(
    database: Database, newer: Path
) -> None:
    database.write(report("SEEN"))
    engine = open_engine(database.address)
    for _ in range(2):
        schema.prepare(engine, migrations=newer, head="0002")
    engine.dispose()

    assert [(row["status"], row["note"]) for row in database.table("messages")] == [("SEEN", "upgraded")]


def test_an_upgrade_that_fails_has_changed_nothing(database: Database, newer: Path) -> None:
    database.write(report("SEEN"))
    step = newer / "versions" / "r0002_notes.py"
    step.write_text(step.read_text() + "    op.execute('SELECT no_such_thing FROM callbacks_messages')\n")
    engine = open_engine(database.address)
    with pytest.raises(Exception, match="no_such_thing"):
        schema.prepare(engine, migrations=newer, head="0002")
    engine.dispose()

    assert "note" not in database.message
    database.write(report("ACCEPTD"))


def test_an_older_release_reports_newer_tables_and_does_not_touch_them(database: Database, newer: Path) -> None:
    engine = open_engine(database.address)
    schema.prepare(engine, migrations=newer, head="0002")
    engine.dispose()
    message = r"of a newer release \(schema 0002; this release has 0001\)"

    with pytest.raises(Retry, match=message):
        database.write(report("SEEN"))
    with pytest.raises(SchemaMismatch, match=message), history.open_history(database.address):
        raise AssertionError("it was opened")
    assert "newer release" in database_check.find_problem(database.address)
    assert database.table("messages") == []


def test_tables_of_other_applications_are_not_touched(database: Database) -> None:
    database.rows("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    database.rows("INSERT INTO alembic_version VALUES ('theirs')")
    database.rows("CREATE TABLE messages (theirs INTEGER)")
    database.write(report("SEEN"))

    assert database.rows("SELECT version_num FROM alembic_version") == [{"version_num": "theirs"}]
    assert database.rows("SELECT * FROM messages") == []
    assert database.message["status"] == "SEEN"


def test_an_existing_table_with_our_name_is_reported_and_nothing_is_half_created(database: Database) -> None:
    database.rows("CREATE TABLE callbacks_replies (theirs INTEGER)")

    with pytest.raises(Retry, match=r"callbacks_replies.* already exists"):
        database.write(report("SEEN"))
    database.rows("DROP TABLE callbacks_replies")
    database.store._next_try = 0
    database.write(report("SEEN"))
    assert database.message["status"] == "SEEN"


def test_tables_that_were_dropped_are_created_again(database: Database) -> None:
    database.write(report("SEEN"))
    for name in ("messages", "statuses", "replies", "opt_outs", "digest_keys", "schema"):
        database.rows(f"DROP TABLE callbacks_{name}")

    with pytest.raises(Retry, match="callbacks_statuses"):
        database.write(report("DELIVRD"))
    database.store._next_try = 0
    database.write(report("DELIVRD"))
    assert database.message["status"] == "DELIVRD"


def test_each_right_that_the_user_lacks_is_named_by_check(postgres: PostgresServer) -> None:
    owned = Database(postgres.new_schema())
    owned.write(report("SEEN"))
    owned.close()
    schema_name = owned.url.rpartition("%3D")[2]
    postgres.execute("CREATE USER writer PASSWORD 'writer'")
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema_name} TO writer")
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema_name} TO writer")
    url = f"{postgres.url(user='writer', password='writer')}?options=-csearch_path%3D{schema_name}"
    address = DatabaseUrl.parse(url)

    for right in ("INSERT", "UPDATE", "DELETE"):
        problem = database_check.find_problem(address)
        assert problem.startswith(f"the user 'writer' may not {right} in callbacks_"), problem
        assert f": GRANT {right} ON callbacks_" in problem
        postgres.execute(f"GRANT {right} ON ALL TABLES IN SCHEMA {schema_name} TO writer")
    assert database_check.find_problem(address) == ""


def test_a_database_whose_encoding_cannot_store_all_texts_is_reported(postgres: PostgresServer) -> None:
    database = Database(postgres.new_database(options="ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))

    with pytest.raises(Retry, match="its encoding is LATIN1"):
        database.write(report("SEEN"))
    assert "LATIN1" in database_check.find_problem(database.address)
    database.close()
