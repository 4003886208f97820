"""The delivery log has every attempt at every event, within its bytes, and never what people wrote or their numbers."""

import asyncio
import time
from collections.abc import Callable

import pytest
import redis

from callbacks import Delivered, Reject, ReplyEvent, ReportEvent, Retry, handler
from shared import keys
from tests.integration.harness import RECEIVED_MS, Harness, due_now, open_harness, reply
from tests.integration.scripted_handlers import accept_and_expand, fail_for, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin import delivery_history
from workers.admin.delivery_history import DeliveryAttempt
from workers.deliver import delivery_log
from workers.deliver.delivery_log import LogLimit
from workers.runtime import scripts

MIB = 1 << 20


def history(harness: Harness, event_id: str, handler: str) -> list[DeliveryAttempt]:
    found = delivery_history.read_history(harness.connection, {event_id: RECEIVED_MS})
    return found.attempts.get((event_id, handler), [])


def test_each_attempt_at_an_event_is_found_with_its_outcome_its_time_and_the_next_one(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    first, second = harness.waiting_event_ids(single)
    before = time.time()
    script.act = fail_for("2")
    harness.deliver(single)
    due_now(harness, single)
    harness.deliver(single)
    due_now(harness, single)
    harness.deliver(single)

    (delivered,) = history(harness, first, "single")
    assert (delivered.result, delivered.attempt, delivered.attempts) == ("delivered", 1, 3)
    assert delivered.call_ms is not None
    assert before - 1 <= delivered.at.timestamp() <= time.time()
    assert (delivered.error, delivered.next_at) == ("", None)
    failed = history(harness, second, "single")
    assert [(one.result, one.attempt) for one in failed] == [("retry", 1), ("retry", 2), ("dead", 3)]
    assert {one.error for one in failed} == {"RuntimeError: no 2 today"}
    waits = [(one.next_at - one.at).total_seconds() for one in failed if one.next_at is not None]
    assert [round(seconds) for seconds in waits] == [1, 4]
    assert history(harness, first, "other") == []


def test_the_events_of_a_batch_share_an_entry_and_a_call(harness: Harness) -> None:
    accept_and_expand(harness, *map(str, range(50)))
    ids = harness.waiting_event_ids(whole)
    harness.deliver(whole)

    assert len({history(harness, event_id, "whole")[0].call_ms for event_id in ids}) == 1
    assert harness.connection.strlen(f"{keys.DELIVERY_LOG}:delivered:1") < 50 * 8 + 80


def test_of_concurrent_calls_each_has_its_own_duration(quick_redis: RedisServer) -> None:
    @handler(ReplyEvent, concurrency=2)
    async def chat(event: ReplyEvent) -> None:
        await asyncio.sleep(0.3 if event.text == "slow" else 0)

    with open_harness(quick_redis.url, chat) as harness:
        harness.accept(reply("r1", text="slow"), reply("r2", text="quick"))
        harness.expand()
        slow, quick = harness.waiting_event_ids(chat)
        harness.deliver(chat)

        (of_slow,), (of_quick,) = history(harness, slow, "chat"), history(harness, quick, "chat")
    assert (of_slow.call_ms or 0) >= 290 > (of_quick.call_ms or 0)


def test_the_answer_of_a_target_that_took_the_event_is_kept_masked(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    (event_id,) = harness.waiting_event_ids(single)
    script.act = lambda _: Delivered("answered 200", "sent to +356 99000001 " + "x" * 300)
    harness.deliver(single)

    (attempt,) = history(harness, event_id, "single")
    assert (attempt.result, attempt.error) == ("delivered", "")
    assert attempt.answer.startswith("answered 200: sent to +356")
    assert "99000001" not in attempt.answer.replace(" ", "")
    assert len(attempt.answer) < 130


def test_answers_that_differ_from_event_to_event_do_not_fill_the_log(harness: Harness) -> None:
    accept_and_expand(harness, *map(str, range(50)))
    ids = harness.waiting_event_ids(single)
    script.act = lambda event: Delivered("answered 200", f"receipt r{event.message_id}-{'x' * 60}")
    harness.deliver(single)

    answers = [history(harness, event_id, "single")[0].answer for event_id in ids]
    assert answers[0].startswith("answered 200: receipt r0-x")
    assert answers[-1] == "answered 200"
    assert 0 < len(set(answers)) <= 8
    assert harness.connection.strlen(f"{keys.DELIVERY_LOG}:delivered:1") < 50 * 20 + 1000


@pytest.mark.parametrize(
    "error", [Reject("call +35699000001"), Retry(60, "+356 9900 0001 is busy"), KeyError("35699000001")]
)
def test_no_number_and_no_text_stands_in_the_log(harness: Harness, error: Exception) -> None:
    accept_and_expand(harness, "1")
    (event_id,) = harness.waiting_event_ids(single)

    def act(_event: ReportEvent) -> None:
        raise error

    script.act = act
    harness.deliver(single)

    (attempt,) = history(harness, event_id, "single")
    assert "356*****001" in attempt.error.replace(" ", "")
    stored = harness.connection.get(f"{keys.DELIVERY_LOG}:failed:1")
    assert stored is not None
    assert b"99000001" not in stored.replace(b" ", b"")


def test_a_worker_without_a_log_writes_none_and_leaves_that_of_the_others(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    (event_id,) = harness.waiting_event_ids(single)
    harness.deliver(single)
    stored = {key: harness.connection.dump(key) for key in harness.connection.scan_iter(f"{keys.DELIVERY_LOG}:*")}
    assert stored

    harness.connection.hset(keys.DELIVERY_LOG, "since_ms", 1)
    harness.log_bytes = 0
    before_ms = int(time.time() * 1000) - 1000
    harness.deliver(other)

    left = {key: harness.connection.dump(key) for key in harness.connection.scan_iter(f"{keys.DELIVERY_LOG}:*")}
    assert left == stored
    assert len(history(harness, event_id, "single")) == 1
    since_ms = int(harness.connection.hget(keys.DELIVERY_LOG, "since_ms"))
    assert since_ms >= before_ms, "attempts are missing until now"


def test_if_no_worker_has_a_log_nothing_is_written(harness: Harness) -> None:
    harness.log_bytes = 0
    accept_and_expand(harness, "1")
    harness.deliver(single)

    assert not list(harness.connection.scan_iter(f"{keys.DELIVERY_LOG}*"))
    assert delivery_history.read_history(harness.connection, {"0" * 24: RECEIVED_MS}).since is None


def test_an_append_notes_since_when_there_is_a_log(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    harness.deliver(single, stop_when=forget_log(harness))

    assert delivery_history.read_history(harness.connection, {}).since is not None
    assert 0 < harness.connection.ttl(keys.DELIVERY_LOG) <= 31 * 86400


def forget_log(harness: Harness) -> Callable[[], bool]:
    """Return what deletes the log's hash after the worker's start, before its first settlement."""

    def forget() -> bool:
        if not harness.connection.exists(f"{keys.DELIVERY_LOG}:delivered:1"):
            harness.connection.delete(keys.DELIVERY_LOG)
        return False

    return forget


@pytest.mark.parametrize("log_bytes", [0, MIB])
@pytest.mark.parametrize("value", ["abc", "", "-1", "1.5", "nan", "1e400", "9" * 30, b"\xff"])
def test_a_wrong_value_in_the_log_stops_no_worker_and_no_look_up(
    harness: Harness, log_bytes: int, value: str | bytes
) -> None:
    fields = ("delivered", "delivered_since_ms", "failed", "failed_since_ms", "since_ms")
    harness.connection.hset(keys.DELIVERY_LOG, mapping=dict.fromkeys(fields, value))
    assert delivery_history.read_history(harness.connection, {}).since is None
    harness.log_bytes = log_bytes
    accept_and_expand(harness, "1")
    (event_id,) = harness.waiting_event_ids(single)

    harness.deliver(single)

    assert harness.totals(single).delivered == 1
    assert len(history(harness, event_id, "single")) == (1 if log_bytes else 0)


def test_while_redis_is_full_the_log_does_not_grow_and_is_complete_only_since_then(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    harness.connection.hset(keys.DELIVERY_LOG, "since_ms", 1)
    # A hundredth of it has room for entries.
    harness.connection.config_set("maxmemory", harness.connection.info("memory")["used_memory"] * 9 // 10)
    try:
        harness.deliver(single)
    finally:
        harness.connection.config_set("maxmemory", 0)

    assert harness.totals(single).delivered == 2
    assert not list(harness.connection.scan_iter(f"{keys.DELIVERY_LOG}:*"))
    assert int(harness.connection.hget(keys.DELIVERY_LOG, "since_ms")) > 1


def test_the_log_has_no_room_until_the_limit_of_redis_is_known(
    quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_harness(quick_redis.url, single) as harness:
        limit = LogLimit(harness.connection, 64 * MIB)
        monkeypatch.setattr(delivery_log, "_LIMIT_AGE_SECONDS", 0)
        harness.connection.config_set("maxmemory", 100 * MIB)
        try:
            with monkeypatch.context() as unavailable:
                unavailable.setattr(limit, "_connection", redis.Redis(port=1))
                limit.open()
                assert limit.read_bytes() == 0
            assert limit.read_bytes() == MIB
        finally:
            harness.connection.config_set("maxmemory", 0)
        assert limit.read_bytes() == 64 * MIB


def test_a_full_log_loses_its_oldest_successes_but_no_failure(harness: Harness) -> None:
    harness.log_bytes = MIB
    accept_and_expand(harness, "failing")
    (failing,) = harness.waiting_event_ids(single)
    script.act = fail_for("failing")
    harness.deliver(single)
    append = harness.connection.register_script(
        scripts.load("arguments", "clock", "deliver/delivery_log") + "append_log(KEYS[1], read_log_texts(), now_ms())"
    )
    # Entries of 4 KiB with the times 1 to 200: more than half a MiB.
    for number in range(1, 201):
        text = (4096).to_bytes(4, "big") + number.to_bytes(6, "big") + b"\x00" * 4096
        append([keys.DELIVERY_LOG], delivery_log.step_arguments({"delivered": text}, log_bytes=MIB))
        used = sum(map(harness.connection.memory_usage, harness.connection.scan_iter(f"{keys.DELIVERY_LOG}*")))
        assert used <= MIB

    newest = int(harness.connection.hget(keys.DELIVERY_LOG, "delivered") or 0)
    kept = [harness.connection.get(name) for name in delivery_log.chunk_names("delivered", newest)]
    assert sum(len(text or b"") for text in kept) > MIB // 8
    assert kept[-1] is None, "the oldest is gone"
    assert len(history(harness, failing, "single")) == 1


def test_how_far_back_the_log_goes_is_known(harness: Harness) -> None:
    harness.deliver(single)
    began = delivery_history.read_history(harness.connection, {}).since
    assert began is not None
    assert abs(began.timestamp() - time.time()) < 60

    accept_and_expand(harness, "1")
    harness.deliver(single)
    # As when the ring was full: the first string is gone.
    harness.connection.rename(f"{keys.DELIVERY_LOG}:delivered:1", f"{keys.DELIVERY_LOG}:delivered:2")
    harness.connection.hset(keys.DELIVERY_LOG, "delivered", 2)

    since = delivery_history.read_history(harness.connection, {}).since
    assert since is not None
    assert since > began


def test_a_key_of_another_type_in_the_place_of_the_log_stops_no_delivery(harness: Harness) -> None:
    harness.connection.rpush(keys.DELIVERY_LOG, "mine")
    accept_and_expand(harness, "1")
    harness.deliver(single)
    assert harness.totals(single).delivered == 1

    harness.connection.delete(keys.DELIVERY_LOG)
    harness.connection.rpush(f"{keys.DELIVERY_LOG}:delivered:1", "mine")
    accept_and_expand(harness, "2")
    harness.deliver(single)

    assert harness.totals(single).delivered == 2
    assert harness.connection.lrange(f"{keys.DELIVERY_LOG}:delivered:1", 0, -1) == [b"mine"]


def test_an_entry_of_a_newer_release_hides_no_other(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    (event_id,) = harness.waiting_event_ids(single)
    newer = delivery_log.event_key(event_id) + b"newer"
    head = len(newer).to_bytes(4, "big") + (0).to_bytes(6, "big")
    harness.connection.hset(keys.DELIVERY_LOG, mapping={"delivered": 1, "delivered_since_ms": int(time.time() * 1000)})
    harness.connection.append(f"{keys.DELIVERY_LOG}:delivered:1", head + newer)
    harness.deliver(single)

    assert len(history(harness, event_id, "single")) == 1
