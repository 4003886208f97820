"""`forget` over the tables of `sql`: rows go, or stay for statistics without the person; the file holds no trace."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.number_search import NumberSearch
from tests.integration.sql.conftest import BACKENDS
from tests.integration.sql.databases import Database, reply, report
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.tables import messages
from workers.personal_data.sql_tables import SqlTables

NUMBER = "35679444123"
SEARCH = NumberSearch.parse([NUMBER])
TEXT = "my words about it"
NewDatabase = Callable[[str], Database]


def filled(database: Database) -> DatabaseUrl:
    about: dict[str, Any] = {"recipient": f"+{NUMBER}", "message_id": "m-2", "raw": {"to": f"+{NUMBER}"}}
    database.write(
        report("ACCEPTD", **about),
        report("DELIVRD", seconds=1, **about),
        report("DELIVRD"),
        reply(TEXT, reply_message_id="r-2", id="b" * 24, sender=NUMBER, raw={"from": NUMBER, "text": TEXT}),
        reply("ask 00356 79 444 123", reply_message_id="r-3", id="c" * 24, raw={"text": "ask 00356 79 444 123"}),
        reply("Yes"),
    )  # fmt: skip
    database.close()
    return database.address


def traces(database: Database) -> list[str]:
    """Return what the files of SQLite still hold of the person."""
    address = DatabaseUrl.parse(database.url)
    assert address.file is not None
    data = b"".join(path.read_bytes() for path in address.file.parent.glob(f"{address.file.name}*"))
    return [text for text in (NUMBER, NUMBER[3:], "79 444 123", TEXT) if text.encode() in data]


@pytest.mark.parametrize("kind", BACKENDS)
def test_rows_that_mention_the_number_go_and_no_other(kind: str, new_database: NewDatabase) -> None:
    database = new_database(kind)
    tables = SqlTables(filled(database), SEARCH)

    assert tables.erase(dry_run=True).found == 5
    assert len(list(tables.export())) == 5
    assert kind != "sqlite" or traces(database)
    result = tables.erase(dry_run=False)

    assert (result.found, result.erased, result.left, result.why) == (5, 5, 0, "")
    assert tables.erase(dry_run=True).found == 0
    rows = {table: database.rows(f"SELECT * FROM callbacks_{table}") for table in ("messages", "statuses", "replies")}
    assert {table: len(found) for table, found in rows.items()} == {"messages": 1, "statuses": 1, "replies": 1}
    assert kind != "sqlite" or traces(database) == []


@pytest.mark.parametrize("kind", BACKENDS)
def test_pseudonyms_keep_what_statistics_need_and_nothing_of_the_person(kind: str, new_database: NewDatabase) -> None:
    database = new_database(kind)
    tables = SqlTables(filled(database), SEARCH, how="pseudonymise", secret="a secret of this test")
    query = "SELECT event_id FROM callbacks_statuses WHERE message_id = 'm-2'"
    before = {row["event_id"] for row in database.rows(query)}

    result = tables.erase(dry_run=False)

    assert (result.found, result.erased, result.left, result.why) == (5, 5, 0, "")
    assert tables.erase(dry_run=True).found == 0
    messages = database.rows("SELECT * FROM callbacks_messages ORDER BY message_id")
    assert [row["status"] for row in messages] == ["DELIVRD", "DELIVRD"]
    pseudonym = messages[1]["recipient"]
    assert pseudonym.startswith("person-")
    assert messages[1]["recipient_key"] == pseudonym
    ids = {row["event_id"] for row in database.rows("SELECT event_id FROM callbacks_statuses")}
    assert {row["status_rank"].rpartition(":")[2] for row in messages} <= ids
    assert before.isdisjoint(ids)
    replies = database.rows("SELECT sender, text, raw FROM callbacks_replies ORDER BY reply_message_id")
    assert [tuple(row.values()) for row in replies[1:]] == [(pseudonym, None, "{}"), ("35679000123", None, "{}")]
    assert len(database.rows("SELECT * FROM callbacks_statuses")) == 3
    assert kind != "sqlite" or traces(database) == []


def test_a_database_that_is_not_there_is_not_made(new_database: NewDatabase) -> None:
    address = DatabaseUrl.parse(new_database("sqlite").url)

    result = SqlTables(address, SEARCH).erase(dry_run=False)

    assert (result.found, result.is_complete) == (0, True)
    assert address.file is not None
    assert not address.file.exists()


def test_a_database_that_is_unavailable_is_named() -> None:
    address = DatabaseUrl.parse("postgresql://reader:secret-word@127.0.0.1:1/callbacks")

    result = SqlTables(address, SEARCH).erase(dry_run=False)

    assert not result.is_complete
    assert "127.0.0.1" in result.why
    assert "secret-word" not in result.why


def test_a_status_that_came_meanwhile_stays_under_the_pseudonym(new_database: NewDatabase) -> None:
    database = new_database("sqlite")
    database.write(report("ACCEPTD", recipient=NUMBER))
    tables = SqlTables(database.address, SEARCH, how="pseudonymise", secret="s" * 32)
    written = tables._write

    def late(engine: Any, table: Any, row_keys: Any) -> None:
        if table is messages:
            database.write(report("DELIVRD", seconds=1, recipient=NUMBER))
        written(engine, table, row_keys)

    tables._write = late  # type: ignore[method-assign]
    tables.erase(dry_run=False)

    assert (database.message["status"], database.message["recipient"][:7]) == ("DELIVRD", "person-")
