"""`forget` over the stores in Redis: what mentions the number goes, its siblings stay, and the audit balances."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from callbacks import Reject
from shared import batches, keys, queues
from shared.batches import Quarantined
from shared.number_search import NumberSearch
from tests.integration.harness import Harness, open_harness, record, reply, status, worker_name
from tests.integration.runtime.test_maintenance import started
from tests.integration.scripted_handlers import accept_and_expand, fail_for, other, script, single, whole
from tests.redis_server import RedisServer
from workers.failures.failure_list import QUARANTINE
from workers.failures.store import FailureStore
from workers.personal_data import erasure
from workers.personal_data.failures import Failures
from workers.personal_data.jobs import WaitingJobs
from workers.personal_data.report import StoreResult
from workers.runtime.job_transitions import JobTransitions

NUMBER = "35699777123"
SEARCH = NumberSearch.parse([f"+{NUMBER}"])


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made


def forget(harness: Harness, *, dry_run: bool = False, wait_seconds: float = 0.0) -> dict[str, StoreResult]:
    stores = (WaitingJobs(harness.connection, SEARCH), Failures(harness.connection, SEARCH))
    results = erasure.erase_until_clean(stores, dry_run=dry_run, wait_seconds=wait_seconds)
    return {result.store: msgspec.structs.replace(result, seconds=0.0) for result in results}


def everything(harness: Harness) -> str:
    """Return all that Redis holds."""
    found: list[str] = []
    for key in harness.connection.scan_iter():
        kind = harness.connection.type(key).decode()
        read: Any = {
            "hash": lambda key: sorted(harness.connection.hgetall(key).items()),
            "string": harness.connection.get,
            "list": lambda key: harness.connection.lrange(key, 0, -1),
            "set": lambda key: sorted(harness.connection.smembers(key)),
            "zset": lambda key: harness.connection.zrange(key, 0, -1),
        }[kind]
        found.append(f"{key} {read(key)}")
    return "\n".join(sorted(found))


def mentioned(message_id: str) -> dict[str, Any]:
    return record(message_id, to=f"+{NUMBER[:3]} {NUMBER[3:]}")


def test_a_dry_run_counts_and_changes_nothing(harness: Harness) -> None:
    harness.accept(status(record("1"), mentioned("2")), reply("r", text=f"write to {NUMBER}"))
    before = everything(harness)

    results = forget(harness, dry_run=True)

    assert (results["waiting"].found, results["waiting"].erased) == (2, 0)
    assert everything(harness) == before


def test_a_callback_that_waits_loses_those_records_alone(harness: Harness) -> None:
    harness.accept(status(record("1"), mentioned("2"), record("3")), reply("r", text=f"call 00{NUMBER}"))

    results = forget(harness)

    assert results["waiting"] == StoreResult(store="waiting", found=2, erased=2)
    assert NUMBER[3:] not in everything(harness)
    assert (harness.audit().forgotten, harness.audit().balances) == (2, True)
    harness.expand()
    harness.deliver(single)
    assert script.called == ["1", "3"]
    assert harness.audit().balances


def test_an_event_leaves_every_handlers_queue_and_the_text_that_they_share(harness: Harness) -> None:
    harness.accept(status(record("1"), mentioned("2")))
    harness.accept(status(record("3")))
    harness.expand()
    assert harness.connection.exists(keys.PORTIONS)

    results = forget(harness)

    assert results["waiting"].erased == 3
    assert NUMBER[3:] not in everything(harness)
    assert harness.audit().balances
    for function in (single, whole):
        harness.deliver(function)
    harness.deliver(other)
    assert sorted(script.called) == ["1", "1", "3", "3"]
    assert harness.audit().balances
    assert not harness.connection.exists(keys.PORTIONS)


def test_what_a_dead_worker_had_finished_stays_finished(harness: Harness) -> None:
    harness.accept(status(record("1"), mentioned("2"), record("3"), mentioned("4")))
    harness.expand()
    (job,) = harness.waiting_jobs(queues.delivery_queue("single"))
    harness.connection.hset(keys.job(job), mapping={"finished": "0,1-2;"})

    forget(harness)
    harness.deliver(single)

    assert script.called == ["1"]
    assert harness.counters()["report.forgotten:single"] == 1
    assert harness.totals(single).delivered == 3
    assert harness.audit().balances


def test_a_scheduled_retry_and_a_dead_letter_go_too(harness: Harness) -> None:
    script.act = fail_for("1", "2")
    harness.accept(status(record("1"), mentioned("2")))
    harness.expand()
    harness.deliver(single)
    script.act = lambda _event: (_ for _ in ()).throw(RuntimeError("no"))
    harness.accept(status(mentioned("5")))
    harness.expand()
    for _ in range(3):
        harness.deliver(whole)
        for job_id in harness.connection.zrange(keys.rq_scheduled(queues.delivery_queue("whole")), 0, -1):
            harness.connection.zadd(keys.rq_scheduled(queues.delivery_queue("whole")), {job_id: time.time() - 1})
        keeper = harness.maintenance(whole)
        keeper.tick([])
        keeper.close()
    assert harness.totals(whole).dead

    results = forget(harness)

    assert results["failures"].erased == harness.counters()["report.forgotten:whole"] > 0
    assert NUMBER[3:] not in everything(harness)
    assert harness.audit().balances


def test_a_dead_letter_of_somebody_else_goes_if_what_its_handler_raised_quotes_the_number(harness: Harness) -> None:
    script.act = lambda _event: (_ for _ in ()).throw(Reject(f"call +{NUMBER} first"))
    harness.accept(status(record("1"), record("2")))
    harness.expand()
    harness.deliver(single)
    assert harness.totals(single).dead == 2
    assert NUMBER in everything(harness)

    results = forget(harness)

    assert results["failures"].erased == 2
    assert NUMBER not in everything(harness)
    assert harness.audit().balances


def test_a_quarantined_bundle_loses_those_records_alone(harness: Harness) -> None:
    body = json.dumps({"data": [{"to": "35699000001"}, {"to": NUMBER}, {"to": "35699000002"}]}).encode()
    packed = json.dumps({"to": NUMBER}).encode("utf-16")
    for kept, records in ((body, 3), (packed, 1)):
        harness.accept(
            quarantined=[
                Quarantined(
                    kind="status", source="gw", received_ms=batches.now_ms(), error="odd", body=kept, records=records
                )
            ]
        )

    results = forget(harness)

    assert results["failures"] == StoreResult(store="failures", found=2, erased=2)
    assert (harness.audit().quarantined, harness.audit().forgotten, harness.audit().balances) == (2, 2, True)
    (left,) = harness._failures(keys.QUARANTINE, keys.quarantined)
    assert [one["to"] for one in json.loads(left["body"])["data"]] == ["35699000001", "35699000002"]
    sizes = keys.FAILURE_OVERHEAD_BYTES + sum(len(k) + len(v) for k, v in left.items() if k != "bytes")
    assert int(harness.connection.get(keys.failures_bytes(keys.QUARANTINE))) == int(left["bytes"]) == sizes


def test_a_bundle_that_counts_as_one_callback_loses_those_records_alone(harness: Harness) -> None:
    both, theirs = (
        {"data": [{"to": number} for number in numbers]} for numbers in (("35699000001", NUMBER), (NUMBER,))
    )
    for value in (both, theirs):
        body = json.dumps(value).encode()
        harness.accept(
            quarantined=[
                Quarantined(kind="status", source="gw", received_ms=batches.now_ms(), error="no message_id", body=body)
            ]
        )
    (exported, _) = Failures(harness.connection, SEARCH).export()

    results = forget(harness)

    assert "35699000001" not in str(exported.content["body"])
    assert results["failures"] == StoreResult(store="failures", found=2, erased=2)
    (left,) = harness._failures(keys.QUARANTINE, keys.quarantined)
    assert (json.loads(left["body"]), left["records"]) == ({"data": [{"to": "35699000001"}]}, "1")
    assert (harness.audit().quarantined, harness.audit().forgotten, harness.audit().balances) == (1, 1, True)


@pytest.mark.parametrize(
    ("headers", "encode"),
    [
        ({"content-encoding": "gzip"}, lambda text: gzip.compress(text.encode())),
        ({}, lambda text: text.encode("utf-16")),
        ({}, lambda text: text.encode("utf-16-le")),
        ({"content-type": "application/json; charset=iso-8859-1"}, lambda text: text.encode("latin-1")),
    ],
)
def test_a_quarantined_bundle_in_another_form_loses_those_records_alone_and_can_be_replayed(
    harness: Harness, headers: dict[str, str], encode: Callable[[str], bytes]
) -> None:
    text = json.dumps({"data": [record("1", client_message_id="grüß"), mentioned("2")]}, ensure_ascii=False)
    now_ms = batches.now_ms()
    harness.accept(
        quarantined=[
            Quarantined(
                kind="status",
                source="gw",
                received_ms=now_ms,
                error="odd",
                body=encode(text),
                refused=415,
                headers=headers,
            )
        ]
    )
    (exported,) = Failures(harness.connection, SEARCH).export()
    assert [json.loads(exported.content["body"])["message_id"]] == ["2"]

    results = forget(harness)

    assert results["failures"] == StoreResult(store="failures", found=1, erased=1)
    assert NUMBER[3:] not in everything(harness)
    store = FailureStore(harness.connection)
    assert [step.done for step in store.replay(QUARANTINE, store.snapshot(QUARANTINE))] == [1]
    harness.expand()
    harness.deliver(single)
    assert script.called == ["1"]
    assert harness.audit().balances


def test_what_a_worker_holds_is_left_and_said(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    harness.accept(status(mentioned("2")))
    harness.expand()
    queue = queues.delivery_queue("single")
    started(harness, worker_name(queue))
    started(harness, worker_name(queue))

    results = forget(harness)

    assert (results["waiting"].found, results["waiting"].erased, results["waiting"].left) == (3, 2, 1)
    assert "1 running job" in results["waiting"].why


def test_a_settled_job_is_left_until_the_run_that_goes_on_has_ended(quick_redis: RedisServer) -> None:
    queue = queues.delivery_queue("single")
    with open_harness(quick_redis.url, single) as harness:
        harness.accept(status(mentioned("1")))
        harness.expand()
        run = started(harness, worker_name(queue))
        harness.connection.hset(keys.job(run.job_id), "progress", 1)

        results = forget(harness)

        assert not results["waiting"].is_complete
        assert "1 running job" in results["waiting"].why

        assert JobTransitions(queue, connection=harness.connection).end(run, [])

        assert forget(harness)["waiting"].is_complete
        assert NUMBER[3:] not in everything(harness)


def test_an_export_says_where_each_record_is_and_what_it_says(harness: Harness) -> None:
    harness.accept(status(record("1"), mentioned("2")))
    harness.expand()
    harness.accept(reply("r", text=f"write to {NUMBER}"))

    items = list(WaitingJobs(harness.connection, SEARCH).export())

    assert [item.where.partition(",")[0] for item in items] == [
        "queue expand",
        *(f"queue deliver-{name}" for name in ("other", "single", "whole")),
    ]
    assert items[0].content["callback"]["message"]["text"] == f"write to {NUMBER}"
    assert {item.content["message_id"] for item in items[1:]} == {"2"}
