"""What moves while `export` or `forget` reads is not missed; and `forget` waits for what holds the number, only."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callbacks.cli import person_stores
from callbacks.cli.main import main
from ingest.spool.folder import SpoolFolder
from shared import keys, queue_jobs, queues, settings
from shared.batches import Accepted
from shared.number_search import NumberSearch
from tests.integration.harness import Harness, open_harness, record, status
from tests.integration.scripted_handlers import fail_for, script, single
from tests.redis_server import RedisServer
from workers.failures.failure_list import dead_letters_of
from workers.failures.store import FailureStore
from workers.personal_data import erasure
from workers.personal_data.failures import Failures
from workers.personal_data.jobs import WaitingJobs
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable
from workers.personal_data.stream_entries import StreamEntries

NUMBER = "35699777123"
SEARCH = NumberSearch([NUMBER])
QUEUE = queues.delivery_queue("single")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    script.act = lambda _event: None
    with open_harness(quick_redis.url, single) as made:
        yield made


def forget(harness: Harness) -> StoreResult:
    """Erase without waiting, and return the result for what waits."""
    stores = (WaitingJobs(harness.connection, SEARCH), Failures(harness.connection, SEARCH))
    waiting, _ = erasure.erase_until_clean(stores, dry_run=False, wait_seconds=0)
    return waiting


def export(harness: Harness, **environment: str) -> list[tuple[str, FoundItem]]:
    """Return what is found, each with the name of its store, by the command's own list of stores."""
    own = {"REDIS_URL": harness.url, "CALLBACKS_SPOOL_DIR": ""}
    loaded = settings.load(own | environment, process="command")
    found: list[tuple[str, FoundItem]] = []
    for store in person_stores.stores_to_read(loaded, harness.connection, SEARCH):
        with suppress(StoreUnreadable):
            found += ((store.name, item) for item in store.export())
    return found


def drain(harness: Harness, folder: SpoolFolder) -> None:
    """Move the callbacks of a spool to Redis, as its web process does."""
    batch = folder.next_batch()
    assert batch is not None
    harness.accept(*(entry for row in batch.rows for entry in row.entries if isinstance(entry, Accepted)))
    folder.remove(batch, batch.rows)


def once_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Let something happen before the next call of a function."""
    function = getattr(owner, name)

    def call(*words: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, function)
        act()
        return function(*words, **named)

    monkeypatch.setattr(owner, name, call)


def run_of(harness: Harness, queue: str, **fields: Any) -> None:
    """Have a worker run the job that waits, which has these fields by now."""
    worker: Any = harness.worker(queue)
    worker.perform_job = lambda job, _queue, _execution: harness.connection.hset(job.key, mapping=fields)
    worker.execute_job(*worker.dequeue_job_and_maintain_ttl(None))


def fail_once(harness: Harness) -> None:
    script.act = fail_for("1")
    harness.deliver(single)


def die(harness: Harness) -> None:
    """Make a dead letter of the event with the number."""
    harness.accept(status(record("1", to=NUMBER)))
    harness.expand()
    script.act = fail_for("1")
    (job_id,) = harness.waiting_jobs(QUEUE)
    stored = harness.connection.hget(keys.job(job_id), "data")
    harness.connection.hset(keys.job(job_id), "data", stored.replace(b'"single",1,', b'"single",3,', 1))
    harness.deliver(single)
    assert harness.totals(single).dead == 1


def replay(harness: Harness) -> None:
    store = FailureStore(harness.connection)
    assert [step.done for step in store.replay(dead_letters_of("single"), store.snapshot(dead_letters_of("single")))]


def test_an_event_that_becomes_a_retry_while_its_queue_is_read_is_exported(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.accept(status(record("1", to=NUMBER)))
    harness.expand()
    once_before(monkeypatch, queue_jobs, "limit_by_bytes", lambda: fail_once(harness))

    # At once: a handler that fails fast may do so again while a long queue is read again.
    (item,) = WaitingJobs(harness.connection, SEARCH).export()

    assert (item.where, item.content["message_id"]) == (f"queue {QUEUE}, waiting", "1")


def test_an_event_that_becomes_a_retry_while_its_queue_is_read_is_forgotten(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.accept(status(record("1", to=NUMBER)))
    harness.expand()
    once_before(monkeypatch, queue_jobs, "limit_by_bytes", lambda: fail_once(harness))

    result = WaitingJobs(harness.connection, SEARCH).erase(dry_run=False)

    assert (result.erased, result.is_complete) == (1, True)
    assert not harness.connection.zcard(keys.rq_scheduled(QUEUE))
    assert harness.audit().balances


def test_the_first_event_of_a_handler_is_not_missed(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.accept(status(record("1", to=NUMBER)))
    once_before(monkeypatch, queue_jobs, "limit_by_bytes", harness.expand)

    (item,) = WaitingJobs(harness.connection, SEARCH).export()

    assert item.where == f"queue {QUEUE}, waiting"


def test_a_dead_letter_that_is_replayed_while_an_export_reads_is_not_missed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(harness)
    once_before(monkeypatch, Failures, "_iterate", lambda: replay(harness))

    ((_, item),) = export(harness)

    assert item.where == f"queue {QUEUE}, waiting"


def test_a_dead_letter_that_is_replayed_while_forget_reads_is_erased(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(harness)
    once_before(monkeypatch, Failures, "_iterate", lambda: replay(harness))

    result = forget(harness)

    assert (result.erased, result.is_complete) == (1, True)
    assert not harness.waiting_jobs(QUEUE)
    assert harness.audit().balances


def test_what_drains_from_a_spool_while_an_export_reads_is_not_missed(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SpoolFolder(tmp_path / "spool", limit_bytes=1 << 20)
    folder.append([status(record("1", to=NUMBER))])

    once_before(monkeypatch, Failures, "_iterate", lambda: drain(harness, folder))
    found = export(harness, CALLBACKS_SPOOL_DIR=str(folder.path))
    folder.close()

    assert found


def test_forget_is_not_complete_if_a_spool_drains_behind_it(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SpoolFolder(tmp_path / "spool", limit_bytes=1 << 20)
    folder.append([status(record("1", to=NUMBER))])

    once_before(monkeypatch, StreamEntries, "erase", lambda: drain(harness, folder))
    monkeypatch.chdir(tmp_path)
    own = {
        "REDIS_URL": harness.url,
        "CALLBACKS_SPOOL_DIR": str(folder.path),
        "CALLBACKS_JSONL_DIR": str(tmp_path / "events"),
    }
    ended = CliRunner().invoke(main, ["forget", NUMBER], env=own)
    folder.close()

    assert harness.waiting_jobs(queues.EXPAND)
    assert ended.exit_code == 1, ended.output


def test_what_a_run_that_goes_on_has_settled_is_exported_as_long_as_redis_holds_it(
    harness: Harness,
) -> None:
    harness.accept(status(record("0"), record("1", to=NUMBER), record("2", to=NUMBER)), status(record("3", to=NUMBER)))
    harness.expand()
    run_of(harness, QUEUE, progress="2")
    harness.accept(status(record("4", to=NUMBER), record("5", to=NUMBER)), status(record("6", to=NUMBER)))
    run_of(harness, queues.EXPAND, progress=3)
    items = [item for _, item in export(harness)]

    assert [(one.where, one.content.get("callback", one.content)["message_id"]) for one in items] == [
        *(("queue expand, running, settled", one) for one in ("4", "5", "6")),
        *((f"queue {QUEUE}, running", one) for one in ("2", "3")),
        (f"queue {QUEUE}, running, settled", "1"),
    ]


@pytest.mark.parametrize(("progress", "left"), [("0", 1), ("1", 1), ("2", 1)])
def test_forget_waits_for_a_run_that_holds_the_number_settled_or_not(
    harness: Harness, progress: str, left: int
) -> None:
    harness.accept(status(record("1", to=NUMBER)), status(record("2")))
    run_of(harness, queues.EXPAND, progress=progress)

    result = forget(harness)

    assert (result.left, result.why.partition(":")[0]) == (left, "1 running job")


def test_forget_does_not_wait_for_a_run_whose_callbacks_do_not_hold_the_number(harness: Harness) -> None:
    harness.accept(status(record("1"), source=f"gw-{NUMBER}"))
    run_of(harness, queues.EXPAND, progress=0)

    result = forget(harness)

    assert (result.found, result.is_complete) == (0, True)
