"""Rows of `sql` that are too old are removed: messages with all their reports, and replies, in short transactions."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from callbacks import ReplyEvent, ReportEvent
from tests.integration.sql.databases import Database, reply, report
from workers.handlers.sql import retention
from workers.handlers.sql.database_url import open_engine
from workers.handlers.sql.errors import DatabaseUnavailable

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
BEFORE = NOW - timedelta(days=30)


def arrived(message_id: str, status: str, *, days_ago: float, **fields: Any) -> ReportEvent:
    at = NOW - timedelta(days=days_ago)
    return report(status, message_id=message_id, received_at=at, occurred_at=at, **fields)


def answered(reply_message_id: str, *, days_ago: float) -> ReplyEvent:
    at = NOW - timedelta(days=days_ago)
    return reply(reply_message_id=reply_message_id, received_at=at, occurred_at=at)


def never_stop(_: float) -> bool:
    return False


def statuses_of(database: Database) -> list[tuple[str, str]]:
    return sorted((row["message_id"], row["status"]) for row in database.table("statuses"))


def test_a_message_is_removed_with_all_its_reports_some_days_after_the_last_of_them(database: Database) -> None:
    database.write(
        arrived("old", "ACCEPTD", days_ago=33),
        arrived("old", "DELIVRD", days_ago=30.1),
        arrived("active", "ACCEPTD", days_ago=40),
        arrived("active", "DELIVRD", days_ago=29.9),
        answered("r-old", days_ago=31),
        answered("r-new", days_ago=1),
    )

    assert retention.find_oldest(database.url) == NOW - timedelta(days=31)
    assert retention.remove_old(database.url, BEFORE, wait=never_stop) == 2

    # The current status follows its reports: a message that is kept has all of them.
    assert statuses_of(database) == [("active", "ACCEPTD"), ("active", "DELIVRD")]
    assert [(row["message_id"], row["status"]) for row in database.table("messages")] == [("active", "DELIVRD")]
    assert [row["reply_message_id"] for row in database.table("replies")] == ["r-new"]
    assert retention.find_oldest(database.url) == NOW - timedelta(days=29.9)


def test_a_report_that_comes_late_begins_the_message_anew(database: Database) -> None:
    database.write(arrived("m", "DELIVRD", days_ago=31))
    retention.remove_old(database.url, BEFORE, wait=never_stop)

    database.write(arrived("m", "ACCEPTD", days_ago=0))

    assert database.message["status"] == "ACCEPTD"
    assert statuses_of(database) == [("m", "ACCEPTD")]


@pytest.mark.parametrize("rows", [2, 3, 10])
def test_a_transaction_removes_a_message_whole_or_one_with_very_many_reports_in_parts(
    database: Database, rows: int
) -> None:
    many = [arrived("m5", f"S{number}", days_ago=31 + number) for number in range(7)]
    others = [arrived(f"m{m}", s, days_ago=35) for m in range(10) if m != 5 for s in ("ACCEPTD", "DELIVRD")]
    database.write(*many, *others)

    engine = open_engine(database.address)
    more = True
    while more:
        with engine.begin() as connection:
            _, more = retention._remove_messages(connection, BEFORE, rows)
            if database.address.file is not None or not more:
                left = connection.execute(text("SELECT message_id FROM callbacks_messages")).scalars().all()
                reports = connection.execute(text("SELECT message_id FROM callbacks_statuses")).scalars().all()
                assert set(reports) <= set(left), "no report without its message"
                assert all(reports.count(one) == 2 for one in left if one != "m5"), "none in parts"
    engine.dispose()

    assert (database.table("messages"), database.table("statuses")) == ([], [])


def test_it_stops_when_it_is_asked_to_and_continues_later(database: Database) -> None:
    database.write(*(arrived(f"m{number:04}", "DELIVRD", days_ago=31) for number in range(300)))

    assert 0 < retention.remove_old(database.url, BEFORE, wait=lambda _: True) < 300
    assert 0 < len(database.table("messages")) == len(database.table("statuses"))
    retention.remove_old(database.url, BEFORE, wait=never_stop)

    assert database.table("messages") == database.table("statuses") == []


def test_a_message_in_use_is_left_for_later_and_nobody_waits(database: Database) -> None:
    if database.address.file is not None:
        pytest.skip("SQLite has one writer at a time")
    database.write(arrived("busy", "DELIVRD", days_ago=31), arrived("free", "DELIVRD", days_ago=31))
    engine = open_engine(database.address)
    with engine.begin() as connection:
        connection.execute(text("UPDATE callbacks_messages SET source = 'x' WHERE message_id = 'busy'"))
        retention.remove_old(database.url, BEFORE, wait=never_stop)
        assert [row["message_id"] for row in database.table("messages")] == ["busy"]
        assert statuses_of(database) == [("busy", "DELIVRD")]
    engine.dispose()

    retention.remove_old(database.url, BEFORE, wait=never_stop)
    assert database.table("messages") == []


def test_without_tables_there_is_nothing_to_remove_and_none_are_made(database: Database) -> None:
    assert retention.find_oldest(database.url) is None
    assert database.address.file is None or not database.address.file.exists()


def test_a_database_that_is_unavailable_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/x") as raised:
        retention.find_oldest("postgresql://me:geheim-1234@127.0.0.1:1/x")
    assert "geheim" not in str(raised.value)


def test_what_is_removed_from_a_file_is_overwritten(new_database: Callable[[str], Database]) -> None:
    database = new_database("sqlite")
    number, pages = "35699777123", 40
    for index in range(pages):
        database.write(
            *(arrived(f"{index}-{part}", "DELIVRD", days_ago=31, recipient=number, raw={}) for part in range(20))
        )
    database.write(arrived("new", "DELIVRD", days_ago=1))
    retention.remove_old(database.url, BEFORE, wait=never_stop)
    database.close()

    assert database.address.file is not None
    # Of cells that SQLite moved from one page to another, a copy may be left.
    assert database.address.file.read_bytes().count(number.encode()) < pages
