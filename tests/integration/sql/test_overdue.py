"""Messages without a final status after a time, and what became of each job, in milliseconds among many messages."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, text

from callbacks import ReportEvent
from callbacks.cli.main import main
from tests.integration.sql.databases import Database, report
from workers.handlers.sql import history
from workers.handlers.sql.conditions import is_overdue
from workers.handlers.sql.overdue import OverdueCount, count_overdue
from workers.handlers.sql.tables import messages

NOW = datetime.now(UTC)


def arrived(status: str, message_id: str, *, hours_ago: float, **fields: Any) -> ReportEvent:
    """Return a report that was received that many hours ago."""
    at = NOW - timedelta(hours=hours_ago)
    return report(status, message_id=message_id, received_at=at, occurred_at=at, **fields)


def invoke(database: Database, *arguments: str, **environment: str) -> Result:
    return CliRunner(env={"DATABASE_URL": database.url, **environment}).invoke(main, arguments, prog_name="callbacks")


def lines(database: Database, *arguments: str, **environment: str) -> list[Any]:
    ended = invoke(database, *arguments, "--json", **environment)
    assert ended.exit_code == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture
def campaign(database: Database) -> Database:
    """Return a database with jobs whose messages are final, overdue, or still on their way."""
    database.write(
        arrived("ACCEPTD", "late", hours_ago=30),
        arrived("ACCEPTD", "later", hours_ago=50),
        arrived("SENT", "unknown status", hours_ago=26, recipient="447700900123"),
        arrived("ACCEPTD", "came late", hours_ago=40),
        arrived("ACCEPTD", "young", hours_ago=1),
        arrived("ACCEPTD", "of another job", hours_ago=26, api_job_id="job-2", client_job_id=None),
        arrived("UNDELIV", "failed", hours_ago=90),
    )
    database.write(arrived("DELIVRD", "came late", hours_ago=1))
    # The final report may arrive first, and a report that is not final says nothing new then.
    database.write(arrived("DELIVRD", "out of order", hours_ago=45))
    database.write(arrived("ACCEPTD", "out of order", hours_ago=44))
    # A second report that is not final does not make a message young again.
    database.write(arrived("UNKNOWN", "later", hours_ago=2))
    return database


@pytest.mark.parametrize("is_overdue", [False, True])
def test_a_list_goes_on_after_any_message_without_missing_or_repeating_one(
    database: Database, is_overdue: bool
) -> None:
    # Three at the same time: then the id decides.
    arrivals = [(f"m-{hours}-{number}", hours) for hours in (30, 40, 50) for number in range(3)]
    database.write(*(arrived("ACCEPTD", message_id, hours_ago=hours) for message_id, hours in arrivals))
    before = NOW if is_overdue else None
    with history.open_history(database.address) as found:
        whole = list(found.messages(overdue_before=before, limit=99))
        for number, last in enumerate(whole):
            at = last.first_received_at if is_overdue else last.last_received_at
            rest = list(found.messages(overdue_before=before, after=(at, last.message_id), limit=99))
            assert rest == whole[number + 1 :]
    assert [message.message_id for message in whole] == sorted(
        (message_id for message_id, _ in arrivals),
        key=lambda one: (one[:4], one) if not is_overdue else (-int(one[2]), one),
    )


def test_messages_without_a_final_status_after_a_time_are_listed_the_oldest_first(campaign: Database) -> None:
    def listed(*arguments: str) -> list[str]:
        return [one["message_id"] for one in lines(campaign, "messages", *arguments)]

    assert listed("--overdue", "24h") == ["later", "late", "of another job", "unknown status"]
    assert listed("--overdue", "28h") == ["later", "late"]
    assert listed("--overdue", "30m") == ["later", "late", "of another job", "unknown status", "young"]
    assert listed("--overdue", "7d") == []
    assert listed("--overdue", "24h", "--limit", "1") == ["later"]
    assert listed("--overdue", "24h", "--job", "job-2") == ["of another job"]
    assert listed("--overdue", "24h", "--to", "+44 7700 900123") == ["unknown status"]
    assert listed("--overdue", "24h", "--status", "unknown") == ["later"]
    assert "late" in invoke(campaign, "messages", "--overdue", "24h").stdout


def test_a_final_report_takes_a_message_from_the_list(campaign: Database) -> None:
    campaign.write(arrived("EXPIRED", "later", hours_ago=0))

    assert [one["message_id"] for one in lines(campaign, "messages", "--overdue", "28h")] == ["late"]


def test_jobs_have_how_many_are_sent_final_overdue_and_delivered(campaign: Database) -> None:
    first, second = lines(campaign, "jobs")
    names = ("api_job_id", "client_job_id", "sent", "final", "overdue", "delivered", "delivery_rate")

    assert [first[name] for name in names] == ["job-1", "autumn", 7, 3, 3, 2, 0.2857]
    assert [second[name] for name in names] == ["job-2", None, 1, 0, 1, 0, 0.0]
    assert lines(campaign, "jobs", "autumn") == lines(campaign, "jobs", "job-1") == [first]
    assert [one["overdue"] for one in lines(campaign, "jobs", CALLBACKS_OVERDUE_SECONDS="7200")] == [3, 1]
    assert [one["overdue"] for one in lines(campaign, "jobs", CALLBACKS_OVERDUE_SECONDS="1800")] == [4, 1]
    assert [one["sent"] for one in lines(campaign, "jobs", "--since", "28h")] == [2, 1]
    assert len(lines(campaign, "jobs", "--limit", "1")) == 1
    expected = "job autumn / job-1: 7 messages sent as far as known, 3 final, 3 overdue, 28.6% delivered"
    assert expected in invoke(campaign, "jobs").stdout


def test_the_messages_of_a_job_come_with_its_summary(campaign: Database) -> None:
    ended = invoke(campaign, "messages", "--job", "job-1")

    assert ended.stdout.startswith("job autumn / job-1: 7 messages sent as far as known, 3 final, 3 overdue, 28.6%")
    assert len(ended.stdout.splitlines()) == 9
    assert len(lines(campaign, "messages", "--job", "autumn")) == 7


def test_a_job_whose_reports_do_not_all_name_the_clients_id_is_one_job(database: Database) -> None:
    database.write(
        arrived("DELIVRD", "1", hours_ago=1, client_job_id=None),
        arrived("DELIVRD", "2", hours_ago=1),
        arrived("DELIVRD", "3", hours_ago=2, api_job_id=None, client_job_id="a"),
        arrived("DELIVRD", "4", hours_ago=3, api_job_id=None, client_job_id="b"),
        arrived("DELIVRD", "5", hours_ago=4, api_job_id=None, client_job_id=None),
    )

    found = [(one["api_job_id"], one["client_job_id"], one["sent"]) for one in lines(database, "jobs")]
    assert found == [("job-1", "autumn", 2), (None, "a", 1), (None, "b", 1), (None, None, 1)]


def test_an_unknown_job_is_reported(campaign: Database) -> None:
    ended = invoke(campaign, "jobs", "no-such-job")

    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "no message of a job 'no-such-job' is known" in ended.stderr


def test_overdue_messages_are_counted_in_all_and_of_the_last_week(campaign: Database) -> None:
    campaign.write(arrived("ACCEPTD", "forgotten", hours_ago=24 * 60))

    with history.open_connection(campaign.address) as connection:
        found = count_overdue(connection, first_before=NOW - timedelta(days=1))

    # Reported first between eight days and one day ago.
    assert found == OverdueCount(messages=5, recent_messages=7, recent_overdue=4)


def test_overdue_messages_are_found_by_an_index_of_those_without_a_final_status(database: Database) -> None:
    database.write(report("SEEN"))
    wanted = select(messages.c.message_id).where(is_overdue(NOW)).order_by(messages.c.first_received_at)
    with history.open_connection(database.address) as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        if not is_sqlite:
            # PostgreSQL reads a table of one row as a whole unless it may not.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        statement = wanted.compile(connection, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        plan = str(connection.execute(text(f"{explain} {statement}")).all())

    assert "callbacks_messages_not_final" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
