"""Overdue messages are counted in the database by a thread of their own, for the page, `/metrics` and notices."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from callbacks.ops.notices.condition_state import select_notified
from callbacks.ops.prometheus import OwnCollector
from callbacks.ops.status.alerts import find_alerts
from callbacks.ops.status.overdue import OverdueCounter, OverdueStatus
from callbacks.ops.status.service_status import ServiceStatus
from shared import settings
from shared.background import Background
from tests.integration.sql.databases import Database, report
from tests.unit.test_now_page import WELL


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/messages.db")


def counter_of(database: Database, handlers: str = "log,sql") -> OverdueCounter:
    environment = {"CALLBACKS_HANDLERS": handlers, "DATABASE_URL": database.url, "CALLBACKS_OVERDUE_SECONDS": "3600"}
    counter = OverdueCounter.if_used(settings.load(environment), Background())
    assert counter is not None
    return counter


def write(database: Database, message_id: str, status: str, *, hours_ago: float) -> None:
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    database.write(report(status, message_id=message_id, occurred_at=at, received_at=at))


def exposed(counter: OverdueCounter) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(OwnCollector("https://wiki.example/callbacks", counter))
    return generate_latest(registry).decode()


def test_without_the_handler_sql_nothing_is_counted(database: Database) -> None:
    assert OverdueCounter.if_used(settings.load({"DATABASE_URL": database.url}), Background()) is None


def test_messages_without_a_final_status_are_counted_after_the_time_of_the_setting(database: Database) -> None:
    counter = counter_of(database)
    assert counter.status == OverdueStatus(after_seconds=3600)
    assert "callbacks_messages" not in exposed(counter), "a number that is not known is no metric"
    assert '\ncallbacks_runbook_info{url="https://wiki.example/callbacks"} 1.0\n' in exposed(counter)

    counter.count()
    assert counter.status == OverdueStatus(after_seconds=3600, messages=0), "the tables are not there yet"

    write(database, "1", "ACCEPTD", hours_ago=2)
    write(database, "2", "ACCEPTD", hours_ago=24 * 30)
    write(database, "3", "ACCEPTD", hours_ago=0.5)
    write(database, "4", "DELIVRD", hours_ago=3)
    counter.count()
    assert counter.status == OverdueStatus(after_seconds=3600, messages=2, recent_messages=2, recent_overdue=1)
    assert "\ncallbacks_messages_overdue 2.0\n" in exposed(counter)
    assert "\ncallbacks_messages_overdue_ratio 0.5\n" in exposed(counter)


def test_many_of_the_last_week_are_a_notice(database: Database) -> None:
    write(database, "1", "ACCEPTD", hours_ago=2)
    counter = counter_of(database)
    counter.count()
    now = ServiceStatus(**{name: getattr(WELL, name) for name in WELL.__struct_fields__} | {"overdue": counter.status})

    (state,) = select_notified(find_alerts(now)).values()
    assert "1 of 1 message of the last week (100.0%)" in state.text


def test_while_the_database_is_unavailable_the_last_numbers_stay_and_the_reason_is_shown(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    write(database, "1", "ACCEPTD", hours_ago=2)
    counter = counter_of(database)
    counter.count()
    database.close()  # which leaves one file
    Path(str(database.address.file)).write_text("no database at all, but a text of more than a hundred bytes " * 20)

    with caplog.at_level(logging.WARNING, "callbacks.overdue"):
        counter.count()
        counter.count()

    assert (counter.status.messages, counter.status.recent_overdue) == (1, 1)
    assert "cannot be used: file is not a database" in counter.status.problem
    assert [record.getMessage().split()[0] for record in caplog.records] == ["action=overdue_not_counted"]


def test_a_wrong_address_is_a_problem_and_not_the_end_of_the_page() -> None:
    loaded = settings.load({"CALLBACKS_HANDLERS": "sql", "DATABASE_URL": "mysql://user:s3cret@host/x"}, process="ops")
    counter = OverdueCounter(loaded, Background())
    counter.count()

    assert "DATABASE_URL: must begin with sqlite:///" in counter.status.problem
    assert "s3cret" not in counter.status.problem


def test_it_counts_by_itself_until_it_is_closed(database: Database) -> None:
    write(database, "1", "ACCEPTD", hours_ago=2)
    counter = counter_of(database)
    counter.start()
    try:
        for _ in range(600):
            if counter.status.messages is not None:
                break
            counter._ending.wait(0.1)
        assert counter.status.messages == 1
    finally:
        counter.close()
    assert not counter._thread.is_alive()
