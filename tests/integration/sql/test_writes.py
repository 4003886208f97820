"""The handler `sql` writes each event once, with any content and in any order, to any database."""

import itertools
import json
import os
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy

from callbacks import Event, Reject, ReportEvent
from tests.integration.sql.databases import Database, reply, report
from workers import registry
from workers.declaration import Handler
from workers.handlers.sql import current_status, tables

SEVEN: tuple[ReportEvent, ...] = (
    report("ACCEPTD", seconds=0, channel="INTERNAL", sender=None),
    report("ACCEPTD", seconds=1, channel="VIBER"),
    report("EXPIRED", seconds=60, channel="VIBER", error_code=943),
    report("UNDELIV", seconds=61, channel="VIBER", client_job_id=None),
    report("SENT_ON", seconds=None, recipient=None),
    report("DELIVRD", seconds=70, source="other"),
    report("SEEN", seconds=65, channel="VIBER"),
)
TABLES = ("messages", "statuses", "replies")


def test_the_handler_is_found_as_any_other(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    found: Handler
    (found,) = registry.load(["sql"])
    assert (found.name, sorted(found.kinds), found.batch, found.is_async) == ("sql", ["reply", "report"], True, False)


def test_the_tables_hold_what_an_event_says(database: Database) -> None:
    database.write(report("ACCEPTD", seconds=0), report("DELIVRD", seconds=9, error_code=943), reply("Yes 👋🏽"))

    message = database.message
    assert (message["status"], message["error_code"], message["recipient"]) == ("DELIVRD", 943, "35679000123")
    assert (message["api_job_id"], message["client_job_id"], message["client_message_id"]) == ("job-1", "autumn", "c-1")
    assert {row["status"] for row in database.table("statuses")} == {"ACCEPTD", "DELIVRD"}
    (answer,) = database.table("replies")
    assert (answer["text"], answer["orig_message_id"]) == ("Yes 👋🏽", "14466445287300014003")


def test_a_repeated_event_has_one_effect(database: Database) -> None:
    given: list[Event] = [*SEVEN, reply()]
    database.write(*given, *given)
    once = {name: database.table(name) for name in TABLES}

    database.write(*given)
    assert {name: database.table(name) for name in TABLES} == once
    assert [len(once[name]) for name in TABLES] == [1, 7, 1]

    # A later copy of a known event changes nothing, whatever new event is in its batch.
    copy = report("SEEN", seconds=65, channel="VIBER", received_at=datetime(2027, 1, 1, tzinfo=UTC))
    database.write(copy, report("SEEN", message_id="a new one"))
    assert once["messages"][0] in database.table("messages")
    assert len(database.table("statuses")) == 8


def test_every_order_and_every_split_into_batches_has_the_same_result(database: Database) -> None:
    rng = random.Random(5040)
    orders = rng.sample(list(itertools.permutations(range(len(SEVEN)))), 25)
    for number, order in enumerate(orders):
        given = [_of_message(str(number), index) for index in order]
        cut = rng.randint(0, len(given))
        database.write(*given[:cut])
        database.write(*given[cut:])

    ends = [{**row, "message_id": "", "status_rank": ""} for row in database.table("messages")]
    assert len(ends) == len(orders)
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["status"], ends[0]["channel"]) == ("SEEN", "VIBER")
    assert len(database.table("statuses")) == len(orders) * len(SEVEN)


def _of_message(message_id: str, index: int) -> ReportEvent:
    fields = {name: getattr(SEVEN[index], name) for name in SEVEN[index].__struct_fields__}
    return ReportEvent(**fields | {"message_id": message_id, "id": f"{message_id}-{index}"})


def test_the_database_and_the_code_agree_on_the_current_status(database: Database) -> None:
    rng = random.Random(1)
    for number in range(15):
        for index in rng.sample(range(len(SEVEN)), rng.randint(1, len(SEVEN))):
            database.write(_of_message(str(number), index))

    engine = database.store._engine
    assert engine is not None
    with engine.begin() as connection:
        statuses = [dict(row) for row in connection.execute(tables.statuses.select()).mappings()]
        messages = [dict(row) for row in connection.execute(tables.messages.select()).mappings()]
    assert sorted(messages, key=lambda row: row["message_id"]) == [
        {column.name: row[column.name] for column in tables.messages.columns}
        for row in current_status.message_rows(statuses)
    ]


# --- bad input


HOSTILE = "a\0b ' \" ; DROP TABLE callbacks_messages; -- \\ %s %(x)s :x ? {} \u202e 👋🏽 \ufffd \x7f"


def test_texts_of_every_kind_are_stored(database: Database) -> None:
    names = (
        "message_id",
        "client_message_id",
        "api_job_id",
        "client_job_id",
        "channel",
        "sender",
        "recipient",
        "source",
    )
    texts = [HOSTILE, "👋" * 100_000, "".join(map(chr, range(0x4E00, 0x9FA5))) * 5, "\ud83d half", "\udc4b", " "]
    for number, text in enumerate(texts):
        fields: dict[str, Any] = dict.fromkeys(names, text)
        database.write(report(text, id=f"e-{number}", raw={text: text}, **fields))
        database.write(reply(text, reply_message_id=text, id=f"r-{number}", raw={"message": {"text": text}}))

    raws = [json.loads(row["raw"]) for row in database.table("statuses")]
    assert all({text: text} in raws for text in texts)
    stored = {row["text"] for row in database.table("replies")}
    assert {HOSTILE.replace("\0", "\u2400"), "👋" * 100_000, "\ufffd half"} <= stored
    assert len(database.table("messages")) == len(texts)


def test_what_the_gateway_left_out_is_null(database: Database) -> None:
    nothing = dict.fromkeys(
        (
            "api_job_id",
            "client_job_id",
            "client_message_id",
            "channel",
            "occurred_at",
            "sender",
            "recipient",
            "error_code",
        )
    )
    database.write(report("ACCEPTD", seconds=None, raw={}, **nothing))
    missing = ("orig_message_id", "req_uuid", "api_job_id", "channel", "occurred_at", "sender", "recipient")
    database.write(reply(None, raw={}, **dict.fromkeys(missing)))

    assert {name for name, value in database.message.items() if value is None} == {
        *(set(nothing) - {"occurred_at"}), "recipient_key",
        "status_at", "accepted_at", "delivered_at", "first_at", "last_at",
    }  # fmt: skip
    (answer,) = database.table("replies")
    assert {name for name, value in answer.items() if value is None} == {
        *missing, "sender_key", "client_job_id", "text"
    }  # fmt: skip


def test_an_unknown_status_and_channel_stay_what_they_are(database: Database) -> None:
    database.write(report("TELEPATHD", channel="DREAM"))
    assert (database.message["status"], database.message["channel"], bool(database.message["is_final"])) == (
        "TELEPATHD", "DREAM", False
    )  # fmt: skip


@pytest.mark.parametrize("code", [2**63 - 1, -(2**63) + 1, 0, None])
def test_a_code_of_64_bits_is_kept(database: Database, code: int | None) -> None:
    database.write(report(error_code=code))
    assert database.message["error_code"] == code


def test_a_code_that_is_too_large_for_a_column_is_in_raw(database: Database) -> None:
    database.write(report(error_code=2**64, raw={"error_code": 2**64}))
    assert database.message["error_code"] is None
    assert json.loads(database.table("statuses")[0]["raw"]) == {"error_code": 2**64}


@pytest.mark.parametrize(
    "time", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)]
)
def test_times_from_the_first_year_to_the_last_are_stored(database: Database, time: datetime) -> None:
    database.write(report(occurred_at=time))
    database.write(report("SEEN", seconds=0))
    stored = database.rows("SELECT occurred_at FROM callbacks_statuses WHERE status = 'DELIVRD'")[0]["occurred_at"]
    assert str(stored)[:23].rstrip("0:.+") == str(time)[:23].rstrip("0:.+")


def test_more_events_than_a_statement_takes_are_one_transaction(database: Database) -> None:
    database.write(*(report("SEEN", message_id=str(number % 1100), seconds=number) for number in range(2500)), reply())
    assert [len(database.table(name)) for name in TABLES] == [1100, 2500, 1]


def test_postgresql_gets_all_rows_of_a_table_in_one_statement(
    new_database: Callable[[str], Database],
) -> None:
    database = new_database("postgresql")
    database.write(reply())  # which opens the connection
    sent: list[tuple[str, int]] = []
    engine = database.store._engine
    assert engine is not None

    def record(_connection: object, _cursor: object, statement: str, parameters: Sequence[Any], *_: object) -> None:
        sent.append((statement.split(" (", maxsplit=1)[0], len(parameters)))

    sqlalchemy.event.listen(engine, "before_cursor_execute", record)
    database.write(*(report(message_id=str(number)) for number in range(2500)))
    assert sent[1:] == [("INSERT INTO callbacks_statuses", 1), ("INSERT INTO callbacks_messages", 1)]


def test_one_bad_event_fails_its_batch_and_is_then_rejected(
    new_database: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = new_database("postgresql")
    bad, good = report("UNDELIV", error_code=2**63), report("SEEN")
    # Any value that the tables reject: here a code that is too large for its column.
    monkeypatch.setattr("workers.handlers.sql.writer._integer", lambda value: value)

    with pytest.raises(Exception, match="out of range"):
        database.write(good, bad)
    assert database.table("statuses") == []
    with pytest.raises(Reject, match=r"the database rejects it: .*out of range"):
        database.write(bad)
    database.write(good)
    assert database.message["status"] == "SEEN"


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_files_of_sqlite_are_for_the_service_and_its_group(
    new_database: Callable[[str], Database], umask: int
) -> None:
    before = os.umask(umask)
    try:
        database = new_database("sqlite")
        database.write(reply("for nobody else's eyes"))
    finally:
        os.umask(before)

    file = database.address.file
    assert file is not None
    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    assert modes == {file.name: 0o640, f"{file.name}-wal": 0o640, f"{file.name}-shm": 0o640}
    assert file.parent.stat().st_mode & 0o777 == 0o750
