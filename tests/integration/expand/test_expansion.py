"""Callbacks become events: what is new, what is a duplicate, what cannot be read, and who gets it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callbacks import ReplyEvent, ReportEvent, handler
from shared import keys, queues
from shared.batches import Accepted
from tests import marks
from tests.integration.harness import (
    RECEIVED_MS,
    Harness,
    declaration_of,
    open_harness,
    record,
    reply,
    status,
    statuses,
)
from tests.redis_server import RedisServer
from workers.expand import expansion
from workers.expand.fan_out import FanOutStep

_PAYLOADS = Path(__file__).parents[2] / "payloads"


@handler(ReportEvent, ReplyEvent)
def everything(event: ReportEvent | ReplyEvent) -> None:
    """Accept everything."""


@handler(ReportEvent, statuses={"UNDELIV"})
def failures(event: ReportEvent) -> None:
    """Accept final failures."""


@handler(ReplyEvent)
def chat(event: ReplyEvent) -> None:
    """Accept replies."""


def test_each_record_of_a_callback_becomes_an_event_for_each_handler_that_wants_it(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything, failures, chat) as harness:
        harness.accept(status(record("1"), record("2", "UNDELIV")), reply("r1", "q1"))

        harness.expand()

        assert len(harness.waiting_event_ids(everything)) == 3
        assert len(harness.waiting_event_ids(failures)) == 1
        assert len(harness.waiting_event_ids(chat)) == 1
        assert harness.counters() == {
            "report.received": 2,
            "reply.received": 1,
            "report.unique": 2,
            "reply.unique": 1,
            "report.queued:everything": 2,
            "reply.queued:everything": 1,
            "report.queued:failures": 1,
            "report.filtered:failures": 1,
            "reply.filtered:failures": 1,
            "reply.queued:chat": 1,
            "report.filtered:chat": 2,
        }
        assert harness.audit().balances


def test_the_gateways_own_bodies_are_expanded_in_the_order_of_their_records(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness:
        harness.accept(Accepted("status", "gw", RECEIVED_MS, 3, (_PAYLOADS / "status_bundle.json").read_text()))

        harness.expand()

        ((first, second, third),) = harness.waiting_events(everything)
        assert [event.status for event in (first, second, third)] == ["ACCEPTD", "DELIVRD", "UNDELIV"]
        assert first.message_id == "14466445287300014003"


@pytest.mark.parametrize(
    "batches",
    [
        pytest.param([[status(record("1"), record("1"))]], id="inside one bundle"),
        pytest.param([[status(record("1")), status(record("1"))]], id="across bundles of one batch"),
        pytest.param([[status(record("1"))], [status(record("1"))]], id="across batches"),
    ],
)
def test_a_repeated_report_is_one_event(redis_server: RedisServer, batches: list[list[Accepted]]) -> None:
    with open_harness(redis_server.url, everything) as harness:
        for batch in batches:
            harness.accept(*batch)

        harness.expand()

        assert len(harness.waiting_event_ids(everything)) == 1
        assert (harness.audit().unique, harness.audit().duplicate, harness.audit().missing) == (1, 1, 0)


def test_a_report_repeated_after_it_was_delivered_is_still_a_duplicate(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        harness.deliver(everything)
        harness.accept(status(record("1")))

        harness.expand()

        assert not harness.waiting_events(everything)
        assert harness.audit().duplicate == 1


def test_reports_that_differ_in_what_the_gateway_said_are_different_events(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness:
        harness.accept(
            status(record("1"), record("2"), record("1", "SEEN"), record("1", error_code=7), record("1", type="SMS"))
        )

        harness.expand()

        assert (harness.audit().unique, harness.audit().duplicate) == (5, 0)


@pytest.mark.parametrize(
    ("replies", "unique", "reused"),
    [
        pytest.param([("m1", "q1"), ("m1", "q2")], 1, 0, id="the same message in a new request"),
        pytest.param([("m1", "q1"), ("m1", "q1")], 1, 0, id="the same message in the same request"),
        pytest.param([(f"m{n}", "q1") for n in range(5)], 5, 4, id="one request for all messages"),
        pytest.param([("m1", "q1"), ("m1", "q2"), ("m2", "q2")], 2, 1, id="the request of a duplicate"),
        pytest.param([("m1", "q1"), ("m2", "q1"), ("m2", "q3")], 2, 1, id="a message known by another request"),
        pytest.param([("m1", "q1"), ("m2", "q2"), ("m1", "q2")], 2, 0, id="two messages that meet"),
        pytest.param([("m1", None), ("m1", None), ("m2", None)], 2, 0, id="without req_uuid"),
        pytest.param([("q1", "m1"), ("m1", "q1")], 2, 0, id="a message id is no request id"),
        pytest.param([(None, "q1"), (None, "q1"), (None, "q2")], 2, 0, id="without reply_message_id"),
        pytest.param([("m1", "q1"), (None, "q1"), (None, "q1")], 2, 0, id="the request of a message, without one"),
        pytest.param([(None, "q1"), ("m1", "q1")], 2, 0, id="a message in the request of a reply without one"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in a batch each"])
def test_a_reply_is_identified_by_its_message_id_or_else_by_its_req_uuid(  # noqa: PLR0917 # a table's columns
    redis_server: RedisServer,
    replies: list[tuple[str | None, str | None]],
    unique: int,
    reused: int,
    together: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with open_harness(redis_server.url, chat) as harness:
        kept = [reply(message, request) for message, request in replies]
        for batch in [kept] if together else [[one] for one in kept]:
            harness.accept(*batch)
            harness.expand()

        assert len(harness.waiting_event_ids(chat)) == unique
        assert (harness.audit().unique, harness.audit().duplicate) == (unique, len(replies) - unique)
        assert harness.audit().balances
        assert harness.counters().get(keys.REUSED_REQ_UUIDS, 0) == reused
        assert ("action=req_uuid_reused" in caplog.text) == bool(reused)


def test_a_reused_req_uuid_is_logged_at_most_once_a_minute(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "_MIN_CHUNK_EVENTS", 1)
    monkeypatch.setattr(expansion, "MAX_CHUNK_WRITES", 2)
    with open_harness(redis_server.url, chat) as harness:
        harness.accept(*(reply(f"m{n}", "q") for n in range(9)))

        harness.expand()

        assert (harness.counters()[keys.REUSED_REQ_UUIDS], caplog.text.count("action=req_uuid_reused")) == (8, 1)


def test_equal_reports_of_two_sources_are_two_events(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness:
        for source in ("one", "other"):
            harness.accept(
                status(record("1"), source=source), msgspec.structs.replace(reply("m1", "q1"), source=source)
            )

        harness.expand()

        assert (
            harness.audit().unique,
            harness.audit().duplicate,
            harness.counters().get(keys.REUSED_REQ_UUIDS, 0),
        ) == (4, 0, 0)


@pytest.mark.parametrize("number", [1, 4, 12])
def test_one_step_in_redis_is_bounded_by_events_and_handlers_together(
    redis_server: RedisServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(name: str) -> Callable[[ReportEvent], None]:
        @handler(ReportEvent, name=name)
        def one(event: ReportEvent) -> None: ...

        return one

    steps: list[tuple[int, int]] = []
    fan_out = FanOutStep.fan_out

    def counted(self: FanOutStep, **options: Any) -> Any:
        written = sum(offer.records * (1 + offer.mask.count("1")) for offer in options["events"])
        steps.append((written, sum(len(event) for offer in options["events"] for event in offer.events)))
        return fan_out(self, **options)

    monkeypatch.setattr(FanOutStep, "fan_out", counted)
    with open_harness(redis_server.url, *(named(f"h{n}") for n in range(number))) as harness:
        harness.accept(*statuses([str(n) for n in range(2000)], bundle=500))
        harness.accept(*statuses([f"large {n}" for n in range(20)], bundle=1, client_message_id="x" * 900_000))

        harness.expand()

        assert harness.audit().unique == 2020
        assert max(written for written, _ in steps) <= expansion.MAX_CHUNK_WRITES
        one_event = 2_000_000
        assert max(size for _, size in steps) <= expansion.MAX_CHUNK_BYTES + one_event


def test_an_event_is_new_again_once_its_mark_has_ended(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, chat, everything, dedupe_seconds=100) as harness:
        harness.accept(status(record("1")), reply("m1", "q1"))
        harness.expand()
        assert len(harness.marks()) == 3

        marks.age(harness.connection, 149_000)
        harness.accept(status(record("1")), reply("m1", "q1"))
        harness.expand()
        assert harness.audit().unique == 2

        marks.age(harness.connection, 2_000)  # a duplicate does not prolong the memory
        harness.accept(status(record("1")))
        harness.expand()

        assert harness.audit().unique == 3
        assert len(harness.marks()) == 1


def test_unreadable_records_are_quarantined_with_their_paths_and_the_others_become_events(
    redis_server: RedisServer,
) -> None:
    with open_harness(redis_server.url, everything) as harness:
        body = status(record("1"), {"status": "SEEN"}, record("2"), record("3", status=""))

        harness.accept(body)
        harness.expand()

        assert len(harness.waiting_event_ids(everything)) == 2
        entries = harness.quarantine()
        assert sum(int(entry["records"]) for entry in entries) == 2
        failure_fields = " ".join(entry["error"] for entry in entries)
        assert "$.data[1].message_id" in failure_fields
        assert "$.data[3].status" in failure_fields
        assert {(entry["kind"], entry["source"], entry["received_ms"]) for entry in entries} == {
            ("status", "gw", str(RECEIVED_MS))
        }
        assert (harness.audit().unique, harness.audit().quarantined, harness.audit().missing) == (2, 2, 0)
        assert all(harness.connection.ttl(key) > 0 for key in harness.connection.scan_iter(f"{keys.QUARANTINE}:0*"))


@pytest.mark.parametrize("body", ["no JSON", '{"data":7}', '{"data":[{"status":"SEEN"}]}', "[]"])
def test_an_unreadable_body_is_quarantined_whole(redis_server: RedisServer, body: str) -> None:
    with open_harness(redis_server.url, everything) as harness:
        harness.accept(status(record("1")), Accepted("status", "gw", RECEIVED_MS, 4, body), status(record("2")))

        harness.expand()

        (entry,) = harness.quarantine()
        assert (entry["body"], entry["records"]) == (body, "4")
        assert len(harness.waiting_event_ids(everything)) == 2
        assert (harness.audit().quarantined, harness.audit().missing, harness.audit().pending) == (4, 0, 2)


@pytest.mark.parametrize("bundle", [1, 7, 5000], ids=["one each", "bundles", "one callback"])
def test_five_thousand_events_go_to_the_handlers_in_jobs_of_a_hundred(redis_server: RedisServer, bundle: int) -> None:
    with open_harness(redis_server.url, everything, failures) as harness:
        for first in range(0, 5000, 1000 if bundle < 1000 else 5000):
            last = first + (1000 if bundle < 1000 else 5000)
            harness.accept(*statuses([str(n) for n in range(first, last)], bundle=bundle))

        harness.expand()

        jobs = harness.waiting_events(everything)
        assert sorted(int(event.message_id) for events in jobs for event in events) == list(range(5000))
        assert max(len(events) for events in jobs) == expansion.EVENTS_PER_DELIVERY
        assert harness.counters()["report.filtered:failures"] == 5000
        assert harness.audit().balances


def test_one_run_coalesces_what_waits_behind_it(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness:
        for n in range(30):
            harness.accept(status(record(str(n))))

        harness.expand()

        (events,) = harness.waiting_events(everything)
        assert [event.message_id for event in events] == [str(n) for n in range(30)], (
            "thirty commits, one job, in order"
        )
        assert harness.leftover_keys() == {keys.rq_queue("deliver-everything"), *jobs_of(harness)}


@pytest.mark.parametrize("limit", ["MAX_ITEMS", "MAX_BYTES"])
def test_a_run_coalesces_no_more_than_its_limits(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    with open_harness(redis_server.url, everything) as harness:
        for n in range(0, 10, 2):
            harness.accept(status(record(str(n)), record(str(n + 1))))
        (job_id, *_) = harness.waiting_jobs(queues.EXPAND)
        bytes_a_job = harness.connection.hstrlen(keys.job(job_id), "data")
        monkeypatch.setattr(expansion, limit, {"MAX_ITEMS": 5, "MAX_BYTES": int(2.5 * bytes_a_job)}[limit])

        harness.expand()

        jobs = harness.waiting_events(everything)
        assert [len(events) for events in jobs] == [4, 4, 2], "two batches of two records fit in each run"


def test_a_batch_larger_than_the_limits_is_still_expanded(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "MAX_ITEMS", 1)
    with open_harness(redis_server.url, everything) as harness:
        harness.accept(*statuses([str(n) for n in range(50)]))

        harness.expand()

        assert len(harness.waiting_event_ids(everything)) == 50


def test_once_all_is_delivered_only_marks_and_counters_remain(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything, failures, chat) as harness:
        harness.accept(*statuses([str(n) for n in range(300)]), reply("m1", "q1"), status(record("1"), record("1")))
        harness.accept(status(record("x", "UNDELIV"), {"status": 1}))
        harness.expand()
        for function in (everything, failures, chat):
            harness.deliver(function)

        assert harness.leftover_keys() == set()
        without_lifetime = {
            key.decode()
            for key in harness.connection.scan_iter()
            if key.startswith(b"cb:") and harness.connection.ttl(key) == -1
        }
        quarantine = {keys.QUARANTINE, keys.failures_bytes(keys.QUARANTINE)}
        assert without_lifetime <= {keys.COUNTS, *quarantine}, "no key of ours is without a lifetime but these"
        assert (harness.audit().balances, harness.audit().pending) == (True, 0)


def test_a_job_of_a_newer_release_does_not_affect_others(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with open_harness(redis_server.url, everything) as harness:
        harness.accept(status(record("1")))
        harness.accept(status(record("2")))
        ours, newer = harness.waiting_jobs(queues.EXPAND)
        harness.connection.hset(keys.job(newer), "data", queues.encode_call(queues.EXPAND_JOB, (2, {"of": "tomorrow"})))

        harness.expand(max_jobs=1)

        assert len(harness.waiting_event_ids(everything)) == 1
        assert harness.waiting_jobs(queues.EXPAND) == [newer]
        assert not harness.connection.exists(keys.job(ours), keys.coalesced(ours))
        assert "action=job_unreadable" in caplog.text


def test_a_job_deleted_by_hand_while_it_waited_is_passed_over(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, everything) as harness:
        for n in range(3):
            harness.accept(status(record(str(n))))
        harness.connection.delete(keys.job(harness.waiting_jobs(queues.EXPAND)[1]))

        harness.expand()

        assert len(harness.waiting_event_ids(everything)) == 2
        assert harness.audit().missing == 1, "and the audit says so"


def test_events_that_no_handler_wants_are_only_counted(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, chat) as harness:
        harness.accept(status(record("1"), record("2")))

        harness.expand()

        assert harness.counters()["report.filtered:chat"] == 2
        assert harness.leftover_keys() == set()
        assert harness.audit().balances


def jobs_of(harness: Harness) -> set[str]:
    return {keys.job(job_id) for job_id in harness.waiting_jobs(queues.delivery_queue(declaration_of(everything).name))}
