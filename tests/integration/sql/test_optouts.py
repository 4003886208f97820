"""The handler `optout` keeps the latest wish of each number; `callbacks optouts` lists, checks, imports and exports."""

import itertools
import json
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from tests.integration.sql.databases import BEGAN, Database, reply
from workers.handlers.optout import wish_table
from workers.handlers.sql.event_store import EventStore

NUMBER = "35679000123"


def said(text: str, *, minutes: float, **fields: Any) -> Any:
    """Return a reply that was sent at a time after BEGAN; each with an id of its own."""
    given: dict[str, Any] = {
        "reply_message_id": f"{text}-{minutes}-{fields.get('sender')}",
        "occurred_at": BEGAN + timedelta(minutes=minutes),
        "received_at": BEGAN + timedelta(minutes=minutes, seconds=2),
    }
    return reply(text, **{**given, **fields})


def write(database: Database, *events: Any) -> None:
    store = EventStore(database.address, wish_table.write_events, retry_seconds=0)
    store.write(events)
    store.close()


def invoke(database: Database, *arguments: str, given: str | bytes = "", **environment: str) -> Result:
    runner = CliRunner(env={"DATABASE_URL": database.url, **environment})
    return runner.invoke(main, ["optouts", *arguments], input=given, prog_name="callbacks")


def rows(database: Database, *arguments: str) -> list[Mapping[str, Any]]:
    ended = invoke(database, *arguments)
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_a_reply_is_kept_with_time_source_channel_and_keyword(database: Database) -> None:
    write(database, said("Stop!", minutes=1, sender="+356 7900 0123", source="shop", recipient="Fortytwo"))

    (row,) = database.table("opt_outs")
    assert (row["number_key"], row["number"], bool(row["opted_out"])) == (NUMBER, "+356 7900 0123", True)
    (line,) = rows(database, "export", "--numbers", "full")
    assert line == {
        "number": "+356 7900 0123",
        "opted_out": True,
        "changed_at": "2026-11-01T12:01:00.000Z",
        "source": "shop",
        "channel": "VIBER",
        "recipient": "Fortytwo",
        "keyword": "stop",
        "event_id": row["event_id"],
    }


def test_in_whatever_order_and_however_often_replies_come_the_latest_counts(database: Database) -> None:
    replies = [said("STOP", minutes=1), said("start", minutes=2), said("END", minutes=3), said("Unstop", minutes=4)]
    kept = []
    for count, order in enumerate(itertools.permutations(replies)):
        if count % 6 == 0:  # four of the orders
            database.rows("DELETE FROM callbacks_opt_outs") if count else None
            for event in order:
                write(database, event)
            write(database, *order, *reversed(order))
            kept.append(database.table("opt_outs"))

    assert [len(table) for table in kept] == [1] * 4
    assert all(table == kept[0] for table in kept)
    assert not kept[0][0]["opted_out"]


def test_workers_that_write_at_once_leave_the_latest_wish_of_each_number(database: Database) -> None:
    """Each has all replies, in an order and in batches of its own; the time of the reply decides."""
    numbers = [f"4366400000{number:02}" for number in range(20)]
    replies = [
        said("STOP" if minutes % 2 else "START", minutes=minutes, sender=number)
        for index, number in enumerate(numbers)
        for minutes in range(1, 4 + index % 2)
    ]

    def work(seed: int) -> None:
        own = random.Random(seed).sample(replies, len(replies))
        write(database, *own[:30])
        write(database, *own[30:])

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))

    kept = {row["number"]: bool(row["opted_out"]) for row in database.table("opt_outs")}
    assert kept == {number: index % 2 == 0 for index, number in enumerate(numbers)}


def test_of_two_wishes_at_the_same_time_opting_out_counts(database: Database) -> None:
    write(database, said("STOP", minutes=1), said("START", minutes=1))

    assert invoke(database, "check", NUMBER).exit_code == 1


def test_a_time_in_the_future_does_not_outlast_later_wishes(database: Database) -> None:
    write(database, said("START", minutes=1, occurred_at=BEGAN + timedelta(days=3650)), said("STOP", minutes=2))

    assert invoke(database, "check", NUMBER).exit_code == 1


def test_without_the_gateways_time_that_of_receipt_counts(database: Database) -> None:
    write(database, said("STOP", minutes=2, occurred_at=None), said("START", minutes=1))

    (line,) = rows(database, "list", "--json")
    assert line["changed_at"] == "2026-11-01T12:02:02.000Z"


def test_check_says_by_its_exit_code_whether_a_number_may_be_written_to(database: Database) -> None:
    write(database, said("STOP", minutes=1), said("STOP", minutes=1, sender="447700900123"))
    write(database, said("START", minutes=2, sender="447700900123"))

    for spelling in (NUMBER, "+356 7900-0123", "00356 79000123", "٣٥٦٧٩٠٠٠١٢٣"):
        ended = invoke(database, "check", spelling)
        assert ended.exit_code == 1, spelling
    said_now = invoke(database, "check", NUMBER).stdout
    assert said_now == "356*****123 opted out on 2026-11-01T12:01:00.000Z (main)\n"
    again = invoke(database, "check", "+447700900123")
    assert (again.exit_code, "may be written to: it opted in again" in again.stdout) == (0, True)
    unknown = invoke(database, "check", "43664123456", "--json")
    assert (unknown.exit_code, json.loads(unknown.stdout)["opted_out"]) == (0, False)
    known = json.loads(invoke(database, "check", NUMBER, "--json", "--numbers", "full").stdout)
    assert (known["number"], known["opted_out"], known["keyword"]) == (NUMBER, True, "stop")


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        ("0664 1234567", "has no country code"),
        ("ACME", "is not a phone number"),
        ("", "is not a phone number"),
        ("12345", "has 5 digits"),
        ("+356 (0)79 000123", "has a (0)"),
    ],
)
def test_what_cannot_be_checked_is_exit_2(database: Database, number: str, problem: str) -> None:
    write(database)
    ended = invoke(database, "check", number)

    assert (ended.exit_code, problem in ended.stderr) == (2, True), ended.stderr


def test_a_database_that_cannot_be_read_never_means_that_a_number_may_be_written_to(database: Database) -> None:
    absent = invoke(database, "check", NUMBER)
    assert (absent.exit_code, "has no opt-outs yet: add `optout` to CALLBACKS_HANDLERS" in absent.stderr) == (2, True)
    wrong = invoke(database, "check", NUMBER, DATABASE_URL="mysql://h/x")
    assert (wrong.exit_code, "DATABASE_URL" in wrong.stderr) == (2, True)
    closed = invoke(database, "check", NUMBER, DATABASE_URL="postgresql://u@127.0.0.1:1/x")
    assert (closed.exit_code, "cannot be used" in closed.stderr) == (2, True)


def test_list_has_the_latest_first_and_hides_numbers(database: Database) -> None:
    write(database, said("STOP", minutes=1), said("ARRÊT", minutes=5, sender="33612345678", recipient="33700000001"))
    write(database, said("STOP", minutes=2, sender="447700900123"), said("START", minutes=3, sender="447700900123"))

    ended = invoke(database, "list")
    assert ended.stdout.splitlines() == [
        "2026-11-01T12:05:00.000Z  out  336*****678  main  VIBER  arret",
        "2026-11-01T12:01:00.000Z  out  356*****123  main  VIBER  stop",
        "2 numbers opted out in total",
    ]
    assert [row["opted_out"] for row in rows(database, "list", "--all", "--json")] == [True, False, True]
    assert [row["number"] for row in rows(database, "list", "--json", "--numbers", "full", "--limit", "1")] == [
        "33612345678"
    ]
    assert "33700000001" not in json.dumps(rows(database, "list", "--json"))


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_export_can_be_imported_elsewhere_and_again(database: Database, form: str) -> None:
    write(database, said("STOP", minutes=1, sender="+35679000123"), said("停止", minutes=2, sender="8613800138000"))
    write(database, said("START", minutes=3, sender="447700900123"), said("STOP", minutes=4, sender="=ACME"))
    whole = invoke(database, "export", "--numbers", "full", *(["--csv"] if form == "csv" else [])).stdout
    before = database.table("opt_outs")
    assert len(before) == 4

    assert invoke(database, "import", given=whole).stdout == "read: 4; changed: 0 numbers\n"
    database.rows("DELETE FROM callbacks_opt_outs")
    assert invoke(database, "import", given=whole).stdout == "read: 4; changed: 4 numbers\n"
    assert database.table("opt_outs") == before


def test_an_import_makes_the_tables_and_takes_a_plain_list(database: Database) -> None:
    ended = invoke(
        database, "import", "--json", given="\ufeff+356 7900 0123\r\n\r\n447700900123\r\n+35679000123\r\n".encode()
    )

    assert json.loads(ended.stdout) == {"read": 3, "changed": 2}
    assert invoke(database, "check", NUMBER).stdout == "356*****123 opted out (import)\n"
    assert invoke(database, "list").stdout.startswith("-                         out  ")


def test_an_import_without_times_undoes_nothing_that_people_said(database: Database) -> None:
    write(database, said("START", minutes=1))

    assert invoke(database, "import", given=NUMBER).stdout == "read: 1; changed: 0 numbers\n"
    assert invoke(database, "import", given=f"number;changed_at\n{NUMBER};2026-11-02").stdout.endswith("1 number\n")
    assert invoke(database, "check", NUMBER).exit_code == 1


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ("number,opted_out\n35679000123,true\n0664 123,true\n447700900123,maybe\n", [
            "line 3: the number has no country code: write it as +43664… or 43664…",
            "line 4: opted_out must be true or false",
        ]),
        ("number\n35679*****123\n", ["line 2: this is not a phone number"]),
        ('{"number": "35679000123"}\n{"number": 7}\nno JSON\n{"changed_at": "2026"}\n', [
            "line 2: the number has 1 digits, and a phone number 7 to 15",
            "line 3: it is not a JSON object: ",
            "line 4: it has no number",
        ]),
        ('{"number": ["x"]}\n', ["line 1: a value is neither a text nor a whole number"]),
        ("35679000123\n447700900123,yes\n", ["line 2: it has 2 cells, and number is not a column"]),
        ("number,changed_at\n35679000123,2999-01-01\n", ["line 2: changed_at is in the future"]),
        ("number,changed_at\n35679000123,yesterday\n", ["line 2: changed_at must be a time such as "]),
        ("number\n35679000123.0\n+356 (0)79 000123\n3.5679E+10\n", [
            "line 2: the number has a (0), or a fraction from a spreadsheet",
            "line 3: the number has a (0), or a fraction from a spreadsheet",
            "line 4: this is not a phone number",
        ]),
        (b"35679000123\n\xff\n", ["line 2: it is not text in UTF-8"]),
        ('number\n"35679000123\n', ["it is not CSV: "]),
        ("35679000123a\n", ["line 1: this is not a phone number"]),
        ('{"number": ["35679000123"]}\n', ["line 1: a value is neither"]),
        ("number,opted_out\n447700900123,35679000123\n", ["line 2: opted_out must be"]),
        ("number,changed_at\n447700900123,35679000123\n", ["line 2: changed_at must be"]),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_and_nothing_is_imported(
    new_database: Any, given: str | bytes, problems: list[str]
) -> None:
    database = new_database("sqlite")
    write(database)
    ended = invoke(database, "import", given=given)

    assert ended.exit_code == 1
    *lines, last = ended.stderr.splitlines()
    assert len(lines) == len(problems)
    for line, problem in zip(lines, problems, strict=True):
        assert problem in line
    assert "35679" not in ended.stderr
    assert last == "Error: Nothing was imported. Correct the lines and import all of them again."
    assert database.table("opt_outs") == []
