"""Events that a dead worker finished: `callbacks handlers purge` counts them as delivered; nobody gets them again."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration.harness import HandlerTotals, Harness, open_harness, worker_name
from tests.integration.runtime.test_maintenance import started
from tests.integration.scripted_handlers import accept_and_expand, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin.purge import Purger
from workers.runtime.journal_folder import JournalFolder

QUEUE = queues.delivery_queue("single")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    script.__init__()  # type: ignore[misc]
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made


@pytest.fixture
def journals(harness: Harness, tmp_path: Path) -> JournalFolder:
    """Return journals in which a dead worker recorded the first of two events; its lease has expired."""
    made = JournalFolder(tmp_path / "run")
    accept_and_expand(harness, "1", "2")
    (job,) = harness.waiting_jobs(QUEUE)
    run = started(harness, worker_name(QUEUE))
    with closing(made.open(run.worker_name)) as journal:
        journal.begin([job])
        journal.record(0, [0])
    harness.connection.zadd(keys.rq_started(QUEUE), {run.composite_key: time.time() - 1})
    return made


def test_after_a_cancelled_purge_a_finished_event_is_not_delivered_again(
    harness: Harness, journals: JournalFolder
) -> None:
    Purger(harness.connection, "single", journals=journals).prepare()
    harness.deliver(single)

    assert script.called == ["2"]
    assert harness.totals(single) == HandlerTotals(delivered=2)


def test_a_finished_event_counts_as_delivered_and_the_rest_as_dropped(
    harness: Harness, journals: JournalFolder
) -> None:
    purger = Purger(harness.connection, "single", journals=journals)
    purger.prepare()
    list(purger.run())

    assert harness.counters()["report.dropped:single"] == 1
    assert harness.totals(single) == HandlerTotals(delivered=1)
