"""Several workers on one database: real processes that create the tables, write the same messages, and are killed."""

import itertools
import os
import random
import signal
import subprocess

from callbacks import Event
from tests.integration.sql.databases import Database, encoded, process, report

# Each line on stdin is a batch; the answer is "written", or the error. Without retries: a deadlock would otherwise be
# retried unnoticed.
WORKER = """
import workers.handlers.sql.handler
workers.handlers.sql.handler._store()._retry_seconds = 0
print("ready", flush=True)
for line in sys.stdin:
    try:
        sql(events.decode(line))
        print("written", flush=True)
    except BaseException as exc:
        print(type(exc).__name__, exc, flush=True)
"""


def start(database: Database, number: int) -> list[subprocess.Popen[str]]:
    """Start workers that have imported everything and not yet opened the database."""
    workers = [process(WORKER, DATABASE_URL=database.url) for _ in range(number)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    return workers


def send(worker: subprocess.Popen[str], *batches: list[Event]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("".join(encoded(batch) + "\n" for batch in batches))
    worker.stdin.flush()


def answers(workers: list[subprocess.Popen[str]]) -> set[str]:
    """Wait for the end of the workers; return their answers."""
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [errors for _, errors in outputs if errors] == []
    return {line for out, _ in outputs for line in out.splitlines()}


def test_workers_that_create_the_tables_together_and_write_the_same_messages_lose_nothing(database: Database) -> None:
    rng = random.Random(1)
    names = ("ACCEPTD", "EXPIRED", "DELIVRD", "SEEN")
    given: list[Event] = [
        report(name, message_id=str(message), seconds=second)
        for message in range(60)
        for second, name in enumerate(names)
    ]
    workers = start(database, 4)
    for worker in workers:
        # Each worker gets all events, in an order and in batches of its own.
        own = rng.sample(given, len(given))
        send(worker, *(own[first : first + 24] for first in range(0, len(own), 24)))

    assert answers(workers) == {"written"}
    assert len(database.table("statuses")) == len(given)
    assert [row["status"] for row in database.table("messages")] == ["SEEN"] * 60
    assert database.rows("SELECT version_num FROM callbacks_schema") == [{"version_num": "0001"}]
    assert {str(row["accepted_at"])[:19] for row in database.table("messages")} == {"2026-11-01 12:00:00"}


def test_a_killed_worker_has_written_whole_batches_only(database: Database) -> None:
    batches: list[list[Event]] = [
        [report("SEEN", message_id=f"{batch}-{number}") for number in range(50)] for batch in range(40)
    ]
    (worker,) = start(database, 1)
    send(worker, *batches)
    assert worker.stdout is not None
    acknowledged = len(list(itertools.islice(worker.stdout, 5)))
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate(timeout=60)

    numbers = database.rows("SELECT message_id FROM callbacks_messages")
    assert len(numbers) >= acknowledged * 50
    assert len(numbers) % 50 == 0
    assert len(database.table("statuses")) == len(numbers)
    database.write(*(event for batch in batches for event in batch))
    assert len(database.table("messages")) == 2000


def test_a_forked_process_opens_a_connection_of_its_own(database: Database) -> None:
    code = """
import workers.handlers.sql.handler
workers.handlers.sql.handler._store()._retry_seconds = 0
given = events.decode(sys.stdin.read())
sql(given[:1])
child = os.fork()
for event in given[1:51] if child else given[51:]:
    sql([event])
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    forked = process(code, DATABASE_URL=database.url)

    given = [report("SEEN", message_id=str(number)) for number in range(101)]
    assert forked.communicate(encoded(given), timeout=60) == ("", "")
    assert forked.returncode == 0
    assert len(database.table("messages")) == len(given)
