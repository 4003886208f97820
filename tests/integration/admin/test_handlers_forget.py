"""`callbacks handlers forget`: nothing is left of a removed handler but its dead letters; never of one in use."""

import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from callbacks import Reject, ReportEvent
from callbacks.cli.main import main
from callbacks.ops.status import snapshot_reader
from shared import audit, keys, queues
from tests.integration.harness import Harness, open_harness
from tests.integration.scripted_handlers import accept_and_expand, other, script, single
from tests.redis_server import RedisServer
from workers.admin.action_log import ActionLog

QUEUE = queues.delivery_queue("single")


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("REDIS_URL", quick_redis.url)
    script.__init__()  # type: ignore[misc]
    with open_harness(quick_redis.url, single, other) as made:
        yield made


def reject(_event: ReportEvent) -> None:
    raise Reject("no")


def forget(name: str) -> Result:
    return CliRunner().invoke(main, ["handlers", "forget", name])


def names_in_redis(harness: Harness) -> list[str]:
    """Return the keys and fields that name `single`, without the action log and dead letters."""
    found = []
    for key in harness.connection.scan_iter():
        if key.startswith((b"cb:actions", b"cb:dead", b"rq:worker:")):  # those of ended workers expire soon
            continue
        fields = harness.connection.hkeys(key) if harness.connection.type(key) == b"hash" else []
        found += [f"{key!r} {field!r}" for field in fields if b"single" in field]
        found += [repr(key)] if b"single" in key else []
    return found


def test_nothing_is_left_of_a_forgotten_handler(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    harness.deliver(single)
    harness.deliver(other)
    harness.connection.hset(keys.SUBSCRIPTIONS, "single", "5-9")
    harness.connection.hset(keys.FILTERS, "shop", '[{"name":"single"}]')
    harness.connection.hset(
        keys.METRICS,
        mapping={
            "retried|single": 1,
            "call|single|le|1": 2,
            "delivery|single|sum": 4,
            "last_delivered_at|single": 5,
            "call|other|sum": 3,
            "call|single-2|sum": 3,
        },
    )
    harness.connection.hset(keys.paused("single"), mapping={"by": "operator", "since_ms": 1})

    answer = forget("single")

    assert (answer.output, answer.exit_code) == ("'single' is forgotten.\n", 0)
    assert names_in_redis(harness) == ["b'cb:metrics' b'call|single-2|sum'"]
    assert harness.connection.hget(keys.METRICS, "call|other|sum") == b"3"
    sums = audit.run(harness.connection)
    assert ([one.handler for one in sums.handlers], sums.balances) == (["other"], True)
    assert list(snapshot_reader.read_snapshot(harness.connection, "fsync").dead) == ["other"]
    (action,) = ActionLog(harness.connection).list_newest(limit=9).items
    assert (action.what, action.where, action.state) == ("forget", "handler:single", "done")
    assert forget("single").exit_code == 1


def test_its_dead_letters_stay_and_the_audit_balances(harness: Harness) -> None:
    script.act = reject
    accept_and_expand(harness, "1", "2")
    harness.deliver(single)
    script.act = lambda _event: None
    harness.deliver(other)

    answer = forget("single")

    assert answer.exit_code == 0
    assert "Its 2 dead letters stay" in answer.output
    assert harness.connection.zcard(keys.dead("single")) == 2
    assert audit.run(harness.connection).balances


@pytest.mark.parametrize("state", ["queue", "scheduled"])
def test_one_for_which_events_wait_is_not_forgotten(harness: Harness, state: str) -> None:
    accept_and_expand(harness, "1", "2")
    if state == "scheduled":
        (job,) = harness.waiting_jobs(QUEUE)
        harness.connection.delete(keys.rq_queue(QUEUE))
        harness.connection.zadd(keys.rq_scheduled(QUEUE), {job: time.time() + 60})
    before = audit.run(harness.connection)

    answer = forget("single")

    assert answer.exit_code == 1
    waiting, scheduled = (2, 0) if state == "queue" else (0, 2)
    assert f"'single' has {waiting} events waiting, {scheduled} scheduled for a retry and 0 in flight" in answer.output
    assert "callbacks handlers purge single" in answer.output
    assert audit.run(harness.connection) == before


@pytest.mark.parametrize(
    ("queue", "words"), [(QUEUE, "a worker runs 'single'"), (queues.EXPAND, "restart them without it")]
)
def test_one_that_workers_know_is_not_forgotten(harness: Harness, queue: str, words: str) -> None:
    accept_and_expand(harness, "1")
    harness.deliver(single)
    harness.connection.hset(keys.SUBSCRIPTIONS, "single", "5-")
    harness.connection.sadd(keys.rq_workers(queue), keys.rq_worker("alive"))
    harness.connection.hset(keys.rq_worker("alive"), "birth", "now")

    answer = forget("single")

    assert answer.exit_code == 1
    assert words in answer.output
    assert names_in_redis(harness) != []


def test_an_unknown_name_is_answered_with_the_one_that_was_meant(harness: Harness) -> None:
    accept_and_expand(harness, "1")

    answer = forget("singel")

    assert answer.exit_code == 1
    assert "did you mean 'single'?" in answer.output
