"""What a dead worker had finished: `callbacks handlers purge` counts it as delivered, and gives it to nobody again."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration.test_maintenance import started
from tests.integration.told import at_handler, brought, other, single, told, whole
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, worker_name  # noqa: F401
from tests.redis_server import RedisServer
from workers.admin.purge import Purger
from workers.runtime.journal_folder import JournalFolder

QUEUE = queues.delivery_queue("single")


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    told.__init__()  # type: ignore[misc]
    with bench(quick_redis.url, single, other, whole) as made:
        yield made


@pytest.fixture
def books(b: Bench, tmp_path: Path) -> JournalFolder:
    """Give the notebooks in which a worker has noted the first of two events before it died; its lease is over."""
    made = JournalFolder(tmp_path / "run")
    brought(b, "1", "2")
    (job,) = b.waiting(QUEUE)
    run = started(b, worker_name(QUEUE))
    with closing(made.open(run.worker_name)) as book:
        book.begin([job])
        book.record(0, 0)
    b.connection.zadd(keys.rq_started(QUEUE), {run.composite_key: time.time() - 1})
    return made


def test_an_operator_who_thinks_better_of_it_has_it_delivered_to_nobody_a_second_time(
    b: Bench, books: JournalFolder
) -> None:
    Purger(b.connection, "single", journals=books).prepare()
    b.deliver(single)

    assert told.called == ["2"]
    assert at_handler(b, single) == (2, 0, 0, 0)


def test_it_is_counted_as_delivered_and_the_rest_as_dropped(b: Bench, books: JournalFolder) -> None:
    purger = Purger(b.connection, "single", journals=books)
    purger.prepare()
    list(purger.run())

    assert b.counts()["report.dropped:single"] == 1
    assert at_handler(b, single) == (1, 0, 0, 0)
