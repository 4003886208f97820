"""`callbacks message`, `messages` and `stats` show what the handler `sql` stored; `check` tests the database."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from tests.acceptance.processes import run
from tests.integration.sql.databases import BEGAN, Database, reply, report
from tests.postgres_server import PostgresServer

MESSAGE = "14466445287300014003"


def invoke_with(database: Database, *arguments: str) -> Result:
    return invoke({"DATABASE_URL": database.url}, *arguments)


def invoke(environment: Mapping[str, str], *arguments: str) -> Result:
    return CliRunner(env=environment).invoke(main, arguments, prog_name="callbacks")


def lines(database: Database, *arguments: str) -> list[Any]:
    ended = invoke_with(database, *arguments, "--json")
    assert ended.exit_code == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture
def campaign(database: Database) -> Database:
    """Return a database with a campaign of four messages, and three replies."""
    database.write(
        report("ACCEPTD", seconds=0, channel="INTERNAL"),
        report("EXPIRED", seconds=60, channel="VIBER", error_code=943),
        report("DELIVRD", seconds=70),
        reply("Yes\n\x1b[31mred 👋🏽"),
        reply("By number", reply_message_id="r-2", orig_message_id=None),
        reply("Not to us", reply_message_id="r-3", orig_message_id="another"),
    )
    for number, (status, seconds) in enumerate((("DELIVRD", 4), ("DELIVRD", 2), ("UNDELIV", 3)), start=1):
        fields = {"message_id": f"m-{number}", "recipient": "447700900123", "client_message_id": f"=1+{number}"}
        database.write(report("ACCEPTD", seconds=0, **fields), report(status, seconds=seconds, **fields))
    return database


def test_a_message_has_its_timeline_by_any_of_its_names(campaign: Database) -> None:
    for name in (MESSAGE, "c-1"):
        (masked,) = lines(campaign, "message", name)
        assert [one["text"] for one in masked["replies"]] == ["***", "***"]
        assert "31mred" not in json.dumps(masked)
        (timeline,) = lines(campaign, "message", name, "--numbers", "full")
        assert timeline["message"]["status"] == "DELIVRD"
        assert [(one["status"], one["channel"], one["error_code"]) for one in timeline["statuses"]] == [
            ("ACCEPTD", "INTERNAL", 0), ("EXPIRED", "VIBER", 943), ("DELIVRD", "SMS", 0)
        ]  # fmt: skip
        assert timeline["statuses"][2]["occurred_at"] == "2026-11-01T12:01:10.000Z"
        assert timeline["statuses"][2]["received_at"] == "2026-11-01T12:02:10.000Z"
        assert timeline["statuses"][2]["raw"] == {"status": "DELIVRD"}
        assert [one["text"] for one in timeline["replies"]] == ["Yes\n\x1b[31mred 👋🏽", "By number"]

    for name in ("job-1", "autumn"):
        assert {one["message"]["message_id"] for one in lines(campaign, "message", name)} == {
            MESSAGE,
            "m-1",
            "m-2",
            "m-3",
        }


def test_the_text_shows_when_each_status_occurred_and_was_received(campaign: Database) -> None:
    ended = run("message", MESSAGE, "--numbers", "full", cwd=Path("/"), environment={"DATABASE_URL": campaign.url})

    assert f"{MESSAGE}  DELIVRD (final on SMS)" in ended.stdout
    assert "2026-11-01T12:01:00.000Z  2026-11-01T12:02:00.000Z  EXPIRED  VIBER  error 943" in ended.stdout
    assert "2026-11-01T12:10:00.000Z  2026-11-01T12:11:00.000Z  reply    Yes  [31mred 👋🏽" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert ended.returncode == 0

    assert "2 more messages: --limit 4" in invoke_with(campaign, "message", "job-1", "--limit", "2").stdout


def test_an_unknown_message_is_reported(campaign: Database) -> None:
    ended = invoke_with(campaign, "message", "no\0such".replace("\0", "-"))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "no message, no job and no event has the id 'no-such'" in ended.stderr


def test_messages_are_chosen_by_number_status_and_age(campaign: Database) -> None:
    def chosen(*arguments: str) -> list[str]:
        return [one["message_id"] for one in lines(campaign, "messages", *arguments)]

    assert chosen() == [MESSAGE, "m-1", "m-3", "m-2"]  # the latest heard of first
    assert chosen("--limit", "2") == [MESSAGE, "m-1"]
    assert chosen("--to", "+44 (7700) 900-123") == ["m-1", "m-3", "m-2"]
    assert chosen("--to", "447700900123", "--status", "undeliv") == ["m-3"]
    assert chosen("--status", "UNDELIV", "--status", "EXPIRED") == ["m-3"]
    age = (datetime.now(UTC) - BEGAN).total_seconds()
    campaign.write(report("SEEN", message_id="new", received_at=datetime.now(UTC) - timedelta(minutes=90)))
    assert chosen("--since", "2h") == ["new"]
    assert chosen("--since", "1h") == []
    assert len(chosen("--since", f"{int(age) + 3600}s")) == 5
    assert MESSAGE in invoke_with(campaign, "messages").stdout


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=["text", "json", "csv"])
@pytest.mark.parametrize("command", [("messages",), ("message", "m-9")], ids=["list", "one"])
def test_numbers_are_masked_unless_they_are_asked_for(
    campaign: Database, command: tuple[str, ...], form: tuple[str, ...]
) -> None:
    if form == ("--csv",) and command[0] == "message":
        return  # which has no such option
    record = {"message_id": "m-9", "to": "35699000001", "note": "35699000001", "text": "a text", "n": 2**80}
    campaign.write(report("SEEN", message_id="m-9", recipient="35699000001", sender="35699000002", raw=record))

    masked = invoke_with(campaign, *command, *form).stdout
    full = invoke_with(campaign, *command, *form, "--numbers", "full").stdout

    assert "356*****001" in masked
    assert "35699000001" not in masked
    assert "35699000002" not in masked
    assert "35699000001" in full
    if form == ("--json",) and command[0] == "message":
        assert json.loads(masked)["statuses"][-1]["raw"]["n"] == 2**80


def test_csv_has_a_line_for_each_message_and_no_formula(campaign: Database) -> None:
    ended = invoke_with(campaign, "messages", "--csv")
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))

    assert [row["message_id"] for row in rows] == [MESSAGE, "m-1", "m-3", "m-2"]
    assert rows[1]["client_message_id"] == "'=1+1"
    assert rows[0]["delivered_at"] == "2026-11-01T12:01:10.000Z"
    assert rows[2]["delivered_at"] == ""


def test_stats_count_by_job_and_day_and_show_delivery_rate_and_times(campaign: Database) -> None:
    campaign.write(report("UNDELIV", message_id="other", api_job_id="job-2", client_job_id=None, seconds=86400 * 2))
    campaign.write(report("SEEN", message_id="old", seconds=-86400 * 3000))
    (stats,) = lines(campaign, "stats", "--since", "1000w")
    days = (datetime.now(UTC) - BEGAN).days + 2
    (recent,) = lines(campaign, "stats", "--since", f"{days}d")

    assert stats["total"]["messages"] == 6
    assert recent["total"] == {
        "messages": 5, "statuses": {"DELIVRD": 3, "UNDELIV": 2}, "delivered": 3, "delivery_rate": 0.6
    }  # fmt: skip
    assert [(day["day"], day["totals"]["messages"]) for day in recent["days"]] == [
        ("2026-11-01", 4),
        ("2026-11-03", 1),
    ]
    assert [(job["api_job_id"], job["client_job_id"], job["totals"]["delivery_rate"]) for job in recent["jobs"]] == [
        ("job-2", None, 0.0), ("job-1", "autumn", 0.75)
    ]  # fmt: skip
    assert recent["seconds_to_deliver"] == {"messages": 3, "p50": 4.0, "p95": 70.0}

    ended = invoke_with(campaign, "stats", "--since", f"{days}d")
    assert "all: 5 messages, 60.0% delivered: 3 DELIVRD, 2 UNDELIV" in ended.stdout
    assert "time to deliver: 4.0 s p50, 70.0 s p95, of 3 messages" in ended.stdout
    assert "job autumn / job-1: 4 messages, 75.0% delivered" in ended.stdout


def test_stats_of_nothing_are_no_error(database: Database) -> None:
    database.write(reply())
    (stats,) = lines(database, "stats")
    assert stats["total"] == {"messages": 0, "statuses": {}, "delivered": 0, "delivery_rate": None}
    assert stats["seconds_to_deliver"] == {"messages": 0, "p50": None, "p95": None}
    assert "no messages" in invoke_with(database, "stats").stdout


@pytest.mark.parametrize("command", [["message", "x"], ["messages"], ["jobs"], ["stats"]])
def test_a_database_without_messages_or_none_at_all_is_said_so_and_not_made(
    command: list[str], tmp_path: Path, new_database: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = invoke({}, *command)
    assert ended.exit_code == 1
    assert "sqlite:///var/callbacks.db has no messages yet" in ended.stderr
    assert list(tmp_path.iterdir()) == []

    ended = invoke_with(new_database("postgresql"), *command)
    assert (ended.exit_code, "has no messages yet" in ended.stderr) == (1, True)


def test_wrong_usage_and_errors_are_described_without_the_password() -> None:
    for url, arguments, code, words in (
        ("", ["messages", "--since", "soon"], 2, "'soon' is not a time"),
        ("", ["messages", "--since", "999999999w"], 2, "is before the year 1"),
        ("", ["messages", "--json", "--csv"], 2, "not both"),
        ("", ["messages", "--limit", "0"], 2, "0 is not in the range"),
        ("mysql://u:s3cret@h/x", ["stats"], 2, "must begin with sqlite:/// or postgresql://"),
        ("postgresql://u:s3cret@127.0.0.1:1/x", ["stats"], 1, "cannot be used: connection failed"),
    ):
        ended = invoke({"DATABASE_URL": url}, *arguments)
        assert ended.exit_code == code, ended.stderr
        assert words in ended.stderr
        assert "s3cret" not in ended.stderr
        assert "Traceback" not in ended.stderr


def test_check_looks_at_the_database_only_where_its_handler_is_wanted(tmp_path: Path, postgres: PostgresServer) -> None:
    def found(url: str, handlers: str) -> list[tuple[str, str]]:
        environment = {"DATABASE_URL": url, "CALLBACKS_HANDLERS": handlers}
        ended = run("check", "--json", cwd=tmp_path, environment=environment)
        assert "s3cret" not in ended.stdout + ended.stderr
        return [(one["state"], one["what"]) for one in json.loads(ended.stdout) if "DATABASE_URL" in one["what"]]

    away = "postgresql://u:s3cret@127.0.0.1:1/x"
    assert found(away, "log") == []
    assert found("mysql://u:s3cret@h/x", "log") == []
    ((state, what),) = found(away, "log,sql")
    assert state == "wrong"
    assert what.startswith("DATABASE_URL: postgresql://u:***@127.0.0.1:1/x cannot be used: connection failed")
    ((state, what),) = found("mysql://u:s3cret@h/x", "sql")
    assert (state, "must begin with sqlite:///" in what) == ("wrong", True)
    assert found("", "sql") == [("ok", "DATABASE_URL: sqlite:///var/callbacks.db can be used")]
    assert list(tmp_path.iterdir()) == []

    database = Database(postgres.new_database())
    ((state, _),) = found(database.url, "sql")
    assert state == "ok"
    assert database.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE 'callbacks%'") == []
