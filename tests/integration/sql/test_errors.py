"""The database is unavailable, locked, full or slow: events are retried, and no message has the password."""

import dataclasses
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from callbacks import Event, ReplyEvent, ReportEvent, Retry
from tests.integration.sql.databases import Database, encoded, process, report
from tests.postgres_server import PASSWORD, PostgresServer, require
from workers.declaration import Handler, handler
from workers.deliver.call.caller import Caller
from workers.handlers.sql import database_check, database_url, history
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.errors import DatabaseUnavailable
from workers.handlers.sql.event_store import EventStore
from workers.handlers.sql.writer import write_events
from workers.runtime.outcome import DONE, RetryRequested


def retry_reason(store: EventStore) -> str:
    """Return why an event cannot be written now."""
    store._next_try = 0
    with pytest.raises(Retry) as error:
        store.write([report("SEEN")])
    assert error.value.__cause__ is None
    assert error.value.__context__ is None
    return str(error.value)


@pytest.fixture
def server() -> PostgresServer:
    require()
    return PostgresServer()


def test_a_server_that_stops_is_used_again_when_it_is_back(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server:
        database = Database(server.new_database())
        database.write(report("ACCEPTD"))
        server.stop()
        assert "Connection refused" in retry_reason(database.store)
        retry_reason(database.store)
        server.start()
        database.store._next_try = 0
        database.write(report("SEEN"))
        database.close()

        assert database.message["status"] == "SEEN"
        assert [record.getMessage().split()[0] for record in caplog.records if record.name == "callbacks.sql"][:1] == [
            "action=database_unavailable"
        ]
        assert caplog.text.count("action=database_unavailable") == 1


def test_a_restart_costs_no_event_an_attempt(server: PostgresServer) -> None:
    with server:
        database = Database(server.new_database())
        waiting = EventStore(database.address, write_events, retry_seconds=60)
        waiting.write([report("ACCEPTD")])
        server.stop(signal.SIGQUIT)  # as a crash
        with ThreadPoolExecutor() as threads:
            written = threads.submit(waiting.write, [report("SEEN")])
            time.sleep(0.5)
            assert not written.done()
            server.start()
            written.result()
        waiting.close()

        assert database.message["status"] == "SEEN"


def test_while_it_is_unavailable_not_every_call_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = EventStore(DatabaseUrl.parse(f"postgresql://u@127.0.0.1:{_closed_port()}/x"), write_events, retry_seconds=0)
    retry_reason(store)
    store._next_try = time.monotonic() + 60
    opened: list[DatabaseUrl] = []
    monkeypatch.setattr("workers.handlers.sql.event_store.open_engine", opened.append)
    with pytest.raises(Retry, match="Connection refused"):
        store.write([report("SEEN")])
    assert opened == []


def test_a_whole_batch_is_retried_and_not_tried_event_by_event() -> None:
    store = EventStore(DatabaseUrl.parse(f"postgresql://u@127.0.0.1:{_closed_port()}/x"), write_events, retry_seconds=0)

    @handler(ReportEvent, ReplyEvent, batch=True)
    def sql(events: list[Event]) -> None:
        store.write(events)

    declaration_of: Handler = sql.callbacks_handler  # type: ignore[attr-defined] # where the decorator leaves it
    with Caller(declaration_of) as calls:
        outcomes = [outcome for _, outcome in calls.call([report("SEEN"), report("ACCEPTD")])]
    assert len(outcomes) == 2
    assert all(isinstance(outcome, RetryRequested) and "Connection refused" in outcome.reason for outcome in outcomes)


def test_errors_of_password_database_and_rights_do_not_contain_the_password(
    postgres: PostgresServer,
) -> None:
    postgres.execute("CREATE USER guest PASSWORD 'p@ss/w0rd'")
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    cases = {
        url.replace("w%3Frd", "wrong"): "password authentication failed",
        f"{postgres.url('nowhere')}?connect_timeout=7": '"nowhere" does not exist',
        postgres.url(name, user="guest", password="p@ss/w0rd"): "permission denied",
        f"postgresql://postgres@127.0.0.1:{postgres.port}/{name}?password=p%40ss1&target_session_attrs=x": "x",
    }
    for wrong, words in cases.items():
        address = DatabaseUrl.parse(wrong)
        store = EventStore(address, write_events, retry_seconds=0)
        texts = [retry_reason(store), database_check.find_problem(address)]
        with pytest.raises(DatabaseUnavailable) as error, history.open_history(address):
            pass
        texts.append(str(error.value))
        assert words in texts[0]
        assert texts[1]
        for text in texts:
            assert not any(secret in text for secret in (PASSWORD, "s3cr", "p@ss", "p%40ss", "wrong"))
        store.close()


def test_an_error_before_anything_is_written_is_not_caused_by_an_event(postgres: PostgresServer) -> None:
    database = Database(postgres.new_database())
    # An error as an event's values cause it, before any event is written.
    database.rows("CREATE VIEW callbacks_schema AS SELECT (1 / (random() * 0)::int)::text AS version_num")
    assert "division by zero" in retry_reason(database.store)
    database.rows("DROP VIEW callbacks_schema")
    database.store._next_try = 0
    database.write(report("SEEN"))
    assert database.message["status"] == "SEEN"
    database.close()


def test_what_is_locked_for_long_is_retried_and_then_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.write(report("ACCEPTD"))
    monkeypatch.setattr(database_url, "LOCK_SECONDS", 1)
    locking = database_url.open_engine(database.address)
    store = EventStore(database.address, write_events, retry_seconds=0)
    with locking.begin() as connection:
        connection.exec_driver_sql("UPDATE callbacks_messages SET status = 'LOCKED'")
        assert "lock" in retry_reason(store)
    locking.dispose()
    store._next_try = 0
    store.write([report("SEEN")])
    store.close()
    assert database.message["status"] == "SEEN"


def test_a_reader_and_the_writer_of_sqlite_do_not_wait_for_each_other(new_database: Callable[[str], Database]) -> None:
    database = new_database("sqlite")
    database.write(report("ACCEPTD"))
    with history.open_history(database.address) as found:
        ((before,), _) = found.find("c-1", limit=1)
        database.write(report("SEEN"))
        ((after,), _) = found.find("c-1", limit=1)
    assert (before.message.status, after.message.status) == (
        "ACCEPTD",
        "ACCEPTD",
    )  # as of the beginning of the transaction
    assert database.rows("PRAGMA journal_mode") == [{"journal_mode": "wal"}]


def test_a_slow_server_times_out_and_the_store_works_afterwards(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres.new_database())
    database.write(report("ACCEPTD"))

    @handler(ReportEvent, ReplyEvent, batch=True, timeout_seconds=0.5)
    def sql(events: list[Event]) -> None:
        database.store.write(events)

    declaration_of: Handler = sql.callbacks_handler  # type: ignore[attr-defined] # where the decorator leaves it
    locking = database_url.open_engine(database.address)
    with locking.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE callbacks_statuses")
        with Caller(declaration_of) as calls:
            ((_, outcome),) = calls.call([report("SEEN")])
    locking.dispose()
    assert "HandlerTimeout" in getattr(outcome, "error", "")

    # With a longer time-out the write succeeds.
    with Caller(dataclasses.replace(declaration_of, timeout_seconds=30.0)) as calls:
        assert list(calls.call([report("SEEN")])) == [(0, DONE)]
    assert database.message["status"] == "SEEN"
    database.close()


def test_a_full_disk_loses_nothing(new_database: Callable[[str], Database]) -> None:
    database = new_database("sqlite")
    database.write(report("ACCEPTD"))
    # A limit of the file size has the same effect as a full disk.
    code = """
import resource
from callbacks import Retry
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
import workers.handlers.sql.handler as h
h._store()._retry_seconds = 0
try:
    sql(events.decode(sys.stdin.read()))
except Retry as exc:
    print("Retry", exc)
"""
    large = [report("SEEN", message_id=str(number), raw={"x": "x" * 1000}) for number in range(2000)]
    filled = process(code, DATABASE_URL=database.url)
    out, errors = filled.communicate(encoded(large), timeout=60)

    assert errors.startswith('action=database_unavailable database="sqlite')
    assert "Traceback" not in errors
    assert out.startswith("Retry sqlite:///")
    assert ("full" in out) or ("disk I/O error" in out)
    assert database.message["status"] == "ACCEPTD"
    database.write(*large)
    assert len(database.table("messages")) == 2001


def test_a_file_that_is_not_a_database_and_a_folder_that_cannot_be_created_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("This is no database. " * 100)
    no_database = DatabaseUrl.parse(f"sqlite:///{tmp_path}/file")
    no_folder = DatabaseUrl.parse(f"sqlite:///{tmp_path}/file/below/x.db")

    assert "file is not a database" in retry_reason(EventStore(no_database, write_events, retry_seconds=0))
    assert "file is not a database" in database_check.find_problem(no_database)
    assert "file" in retry_reason(EventStore(no_folder, write_events, retry_seconds=0))
    assert "is not a folder" in database_check.find_problem(no_folder)


def test_a_torn_database_is_reported_and_not_overwritten(new_database: Callable[[str], Database]) -> None:
    database = new_database("sqlite")
    database.write(*(report("SEEN", message_id=str(number)) for number in range(500)))
    database.close()
    file = database.address.file
    assert file is not None
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = file.stat().st_size
    with file.open("r+b") as torn:
        torn.seek(4096)
        torn.write(b"\xff" * (size - 4096))

    assert "malformed" in retry_reason(database.store)
    assert file.stat().st_size == size


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
