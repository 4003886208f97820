"""Messages are found, and replies are matched, by the digits of a number; a sender's name is not a number."""

import json

from click.testing import CliRunner

from callbacks.cli.main import main
from tests.integration.sql.databases import Database, reply, report
from workers.handlers.sql import history

NUMBER = "436641234567"
SPELLINGS = (NUMBER, "+43 664 1234567", "0043\u00a0664/123-45-67", "+43(664)1234567", "٤٣٦٦٤١٢٣٤٥٦٧")


def found_to(database: Database, number: str) -> list[tuple[str, str]]:
    command = ["messages", "--json", "--numbers", "full", "--to", number]
    ended = CliRunner(env={"DATABASE_URL": database.url}).invoke(main, command)
    assert ended.exit_code == 0, ended.stderr
    lines = map(json.loads, ended.stdout.splitlines())
    return sorted((line["message_id"], line["recipient"]) for line in lines)


def replies_of(database: Database, message_id: str) -> list[str | None]:
    with history.open_history(database.address) as found:
        ((timeline,), _) = found.find(message_id, limit=1)
    return [one.text for one in timeline.replies]


def test_messages_to_a_number_are_found_by_any_spelling_and_shown_as_received(database: Database) -> None:
    stored = [(f"m-{position}", spelling) for position, spelling in enumerate(SPELLINGS)]
    database.write(*(report(message_id=message_id, recipient=recipient) for message_id, recipient in stored))
    database.write(report(message_id="other", recipient="436641234568"), report(message_id="nobody", recipient=None))

    for number in (*SPELLINGS, f"00{NUMBER}", f"+{NUMBER}"):
        assert found_to(database, number) == stored
    assert found_to(database, "06641234567") == []


def test_a_reply_is_matched_to_the_message_it_answers_by_job_and_digits(database: Database) -> None:
    for job, recipient in enumerate(SPELLINGS):
        database.write(report(message_id=f"m-{job}", api_job_id=f"job-{job}", recipient=recipient))
        for sender in (*SPELLINGS, "436641234568"):
            fields = {"orig_message_id": None, "reply_message_id": f"r-{job}-{sender}"}
            database.write(reply(sender, sender=sender, api_job_id=f"job-{job}", **fields))

    for job in range(len(SPELLINGS)):
        assert sorted(map(str, replies_of(database, f"m-{job}"))) == sorted(SPELLINGS)


def test_a_name_with_digits_is_compared_as_text(database: Database) -> None:
    database.write(report(message_id="m-1", recipient="ACME24"), report(message_id="m-2", recipient="24"))
    for number, sender in enumerate(("ACME24", "24", "acme24")):
        database.write(reply(sender, reply_message_id=f"r-{number}", orig_message_id=None, sender=sender))

    assert found_to(database, "ACME24") == [("m-1", "ACME24")]
    assert found_to(database, "24") == [("m-2", "24")]
    assert found_to(database, "acme24") == []
    assert replies_of(database, "m-1") == ["ACME24"]
    assert replies_of(database, "m-2") == ["24"]


def test_a_message_whose_reports_spell_its_number_differently_is_one_message(database: Database) -> None:
    database.write(report("ACCEPTD", recipient=f"+{NUMBER}"), report("DELIVRD", recipient=NUMBER))

    assert len(found_to(database, f"0043 {NUMBER[2:]}")) == 1


def test_an_undelivered_part_and_a_delivered_one_are_both_in_the_timeline(database: Database) -> None:
    # The parts of a long SMS are reported each, under one message id.
    database.write(report("UNDELIV", seconds=4, error_code=34), report("DELIVRD", seconds=4))

    ended = CliRunner(env={"DATABASE_URL": database.url}).invoke(main, ["message", "14466445287300014003"])

    assert "14466445287300014003  DELIVRD (final on SMS)" in ended.stdout
    assert "UNDELIV  SMS  error 34" in ended.stdout
    assert "DELIVRD  SMS\n" in ended.stdout
