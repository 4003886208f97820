"""`callbacks export` and `callbacks forget` as an operator runs them."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from shared import keys
from tests.acceptance import processes
from tests.integration.harness import open_harness, record, status
from tests.integration.scripted_handlers import single
from tests.integration.sql.databases import Database
from tests.redis_server import RedisServer
from tests.unit.example_events import reply, report
from workers.handlers.jsonl.writer import Writer
from workers.handlers.optout import wish_table
from workers.handlers.sql import database_url
from workers.handlers.sql.database_url import DatabaseUrl
from workers.personal_data import sql_tables

NUMBER = "35699777123"
Run = Callable[..., Result]


@pytest.fixture
def run(redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command; one callback waits, and one event is in a file, each with a sibling."""
    monkeypatch.chdir(tmp_path)
    with open_harness(redis_server.url, single) as harness:
        harness.accept(status(record("1"), record("2", to=f"+{NUMBER}")))
    writer = Writer(tmp_path / "events", max_bytes=1 << 20)
    writer.write([report(message_id="1"), report(message_id="2", to=NUMBER)])
    writer.close()
    environment = {
        "REDIS_URL": redis_server.url,
        "CALLBACKS_JSONL_DIR": str(tmp_path / "events"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/none.db",
    }

    def run_command(*words: str, **changed: str) -> Result:
        return CliRunner().invoke(main, words, env=environment | changed)

    return run_command


def counts(output: str) -> dict[str, Sequence[int]]:
    document: dict[str, Any] = json.loads(output)
    return {one["store"]: (one["found"], one["erased"], one["left"]) for one in document["stores"]}


def test_an_export_is_one_document_with_where_and_until_when(run: Run) -> None:
    ended = run("export", "+356 99 777 123")

    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.stdout)
    assert [item["store"] for item in document["items"]] == ["waiting", "jsonl"]
    assert all(item["where"] and item["until"] for item in document["items"])
    assert document["items"][1]["content"]["recipient"] == NUMBER
    assert any("handlers of your own" in one for one in document["not_reached"])


def test_forget_counts_erases_and_is_then_at_rest(run: Run, redis_server: RedisServer) -> None:
    tried = run("forget", "0035699777123", "--dry-run", "--json")
    assert (tried.exit_code, counts(tried.stdout)["waiting"], counts(tried.stdout)["jsonl"]) == (
        0,
        (1, 0, 0),
        (1, 0, 0),
    )

    ended = run("forget", "0035699777123", "--json")

    assert (ended.exit_code, json.loads(ended.stdout)["complete"]) == (0, True), ended.output
    assert (counts(ended.stdout)["waiting"], counts(ended.stdout)["jsonl"]) == ((1, 1, 0), (1, 1, 0))
    assert json.loads(run("export", NUMBER).stdout)["items"] == []
    again = run("forget", NUMBER)
    assert again.exit_code == 0
    assert "Not reached:" in again.stdout
    assert run("audit").exit_code == 0
    with redis_server.client() as client:
        actions = [client.hgetall(f"{keys.ACTIONS}:{one}") for one in client.zrange(keys.ACTIONS, 0, -1)]
    assert [(one["what"], one["where"], one["state"]) for one in actions] == [
        ("forget", "people", "done"),
        ("export", "people", "done"),
        ("forget", "people", "done"),
    ]
    assert actions[0]["done"] == "2"
    assert "777" not in json.dumps(actions)


def test_numbers_come_from_a_file_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "numbers").write_text(f"\ufeff# asked for it in June\n+356 99 000 000\r\n\n  # July\n{NUMBER}\n")

    ended = run("forget", "--from-file", str(tmp_path / "numbers"), "--json")

    assert ended.exit_code == 0, ended.output
    assert (json.loads(ended.stdout)["numbers"], counts(ended.stdout)["waiting"]) == (2, (1, 1, 0))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("forget",), "Name a NUMBER"),
        (("forget", NUMBER, "12345"), "Number 2: Not a whole phone number"),
        (("export", "ACME24"), "Not a whole phone number"),
    ],
)
def test_what_is_not_a_number_is_wrong_usage(words: Sequence[str], problem: str, run: Run) -> None:
    ended = run(*words)

    assert ended.exit_code == 2
    assert problem in ended.output
    assert "12345" not in ended.output


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (f"# Müller\n{NUMBER}\n".encode("latin-1"), "Line 1 of the file is not text in UTF-8"),
        (f"{NUMBER}\n".encode("utf-16"), "Line 1 of the file is not text in UTF-8"),
        (f"# June\n\n{NUMBER}\n\n12345\n".encode(), "Line 5 of the file: Not a whole phone number"),
        (b"099123456\n", "Line 1 of the file: Not a whole phone number"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(data: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "numbers").write_bytes(data)

    ended = CliRunner().invoke(main, ("forget", "--from-file", str(tmp_path / "numbers")))

    assert ended.exit_code == 2
    assert problem in ended.output
    assert "12345" not in ended.output


def test_an_export_names_what_it_cannot_read(run: Run, tmp_path: Path) -> None:
    (packed,) = (tmp_path / "events").glob("*.jsonl")
    packed.with_name(f"{packed.name}.gz").write_bytes(b"no gzip")

    ended = run("export", NUMBER)

    document = json.loads(ended.stdout)
    assert (ended.exit_code, [item["store"] for item in document["items"]]) == (1, ["waiting", "jsonl"])
    assert f"{packed.name}.gz" in document["not_read"][0]


@pytest.mark.parametrize(
    ("variable", "value", "store"),
    [
        ("DATABASE_URL", "postgresql://me:secret-of-mine@127.0.0.1:1/none", "sql"),
        ("CALLBACKS_STREAM_URL", "redis://127.0.0.1:1", "stream"),
    ],
)
def test_an_export_names_a_store_that_does_not_answer_and_prints_the_others(
    run: Run, variable: str, value: str, store: str
) -> None:
    ended = run("export", NUMBER, **{variable: value})

    document = json.loads(ended.stdout)
    assert (ended.exit_code, [item["store"] for item in document["items"]]) == (1, ["waiting", "jsonl"])
    assert document["not_read"][0].startswith(f"{store}: ")
    assert "secret-of-mine" not in ended.output


def test_an_export_has_what_stays_of_an_opt_out_that_was_forgotten(run: Run, tmp_path: Path) -> None:
    address = DatabaseUrl.parse(f"sqlite:///{tmp_path}/none.db")
    with wish_table.open_for_writing(address) as connection:
        wish_table.write_events(connection, [reply(message={"text": "STOP"}, **{"from": NUMBER})])
    assert run("forget", NUMBER).exit_code == 0

    (item,) = json.loads(run("export", NUMBER).stdout)["items"]

    assert (item["store"], item["where"]) == ("sql", "table callbacks_opt_outs")
    assert (item["content"]["number"], item["content"]["opted_out"]) == (None, True)


def test_a_second_run_removes_what_a_reader_of_the_database_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_url, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(sql_tables, "_CHECKPOINT_SECONDS", 0.0)
    database = Database(f"sqlite:///{tmp_path}/none.db")
    database.write(report(to=NUMBER))
    database.close()
    log = tmp_path / "none.db-wal"

    with closing(sqlite3.connect(tmp_path / "none.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM callbacks_messages").fetchall()
        first, second = (run("forget", NUMBER, "--json") for _ in range(2))
        assert NUMBER.encode() in (tmp_path / "none.db").read_bytes()
    third = run("forget", NUMBER, "--json")

    assert [(ended.exit_code, counts(ended.stdout)["sql"]) for ended in (first, second, third)] == [
        (1, (2, 2, 0)),
        (1, (0, 0, 0)),
        (0, (0, 0, 0)),
    ]
    held = (tmp_path / "none.db").read_bytes() + (log.read_bytes() if log.exists() else b"")
    assert NUMBER.encode() not in held


def test_pseudonyms_need_a_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACKS_FORGET_SQL", "pseudonymise")

    ended = run("forget", NUMBER)

    assert ended.exit_code == 2
    assert "CALLBACKS_FORGET_SECRET" in ended.output


def test_a_handler_that_cannot_be_loaded_is_named_and_the_rest_is_erased(
    run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    environment = {
        "REDIS_URL": redis_server.url,
        "CALLBACKS_HANDLERS": "tests.integration.personal_data.forgetting_handlers,nowhere",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }

    ended = processes.run("forget", NUMBER, "--json", cwd=tmp_path, environment=environment)

    assert ended.returncode == 1, ended.stderr
    stores = {one["store"]: one for one in json.loads(ended.stdout)["stores"]}
    assert stores["waiting"]["erased"] == 1
    assert (stores["handler:remembers"]["failed"], stores["handler:nowhere"]["failed"]) == (False, True)
    assert stores["handler:fails"]["why"] == "its forget function raised LookupError"
