"""Failures are listed, replayed and dropped in bounded memory: each that was there at the start, once."""

import gzip
import threading
from collections.abc import Iterator

import pytest

from shared import batches, connections, keys
from tests.integration.failures.failure_lists import checked_bytes, die, ids, quarantined, refusing
from tests.integration.harness import RECEIVED_MS, Harness, open_harness
from tests.redis_server import RedisServer
from workers.failures import iteration
from workers.failures.failure import FailureNotFound, StillUnreadable
from workers.failures.failure_list import QUARANTINE, dead_letters_of
from workers.failures.store import FailureStore

DEAD = dead_letters_of("refusing")
# More than the store reads at once, so that it has to continue.
MANY = 1100


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing) as made:
        yield made


@pytest.fixture
def store(harness: Harness) -> FailureStore:
    return FailureStore(harness.connection)


def fill(harness: Harness, *numbers: int, at_ms: int = RECEIVED_MS) -> None:
    harness.accept(quarantined=[quarantined(number, at_ms=at_ms + number) for number in numbers])


def test_a_list_reads_no_bodies(harness: Harness, store: FailureStore) -> None:
    harness.accept(quarantined=[quarantined(number, body=b"x" * 100_000) for number in range(30)])
    before = harness.connection.info("stats")["total_net_output_bytes"]

    rows = list(iteration.iterate_quarantine(harness.connection))

    assert len(rows) == 30
    assert rows[0].error == "an older rule"
    assert harness.connection.info("stats")["total_net_output_bytes"] - before < 100_000


def test_all_are_replayed_and_failures_added_meanwhile_stay(harness: Harness, store: FailureStore) -> None:
    fill(harness, *range(MANY))
    chosen = store.snapshot(QUARANTINE)
    replaying = store.replay(QUARANTINE, chosen)
    done = next(replaying).done
    harness.accept(quarantined=[quarantined(number, at_ms=batches.now_ms()) for number in range(MANY, MANY + 5)])
    done += sum(step.done for step in replaying)

    assert (chosen.size, done) == (MANY, MANY)
    assert len(ids(harness, keys.QUARANTINE)) == 5
    harness.expand()
    sums = harness.audit()
    assert sums.records["report"].received == sums.unique == MANY
    assert (sums.quarantined, sums.balances) == (5, True)
    assert checked_bytes(harness, keys.QUARANTINE) > 0


def test_a_dead_letter_that_fails_again_meanwhile_is_not_replayed_twice(harness: Harness, store: FailureStore) -> None:
    die(harness, *map(str, range(MANY)))
    done = 0
    for step in store.replay(DEAD, store.snapshot(DEAD)):
        done += step.done
        harness.deliver(refusing)

    assert done == MANY
    assert len(ids(harness, DEAD.index)) == MANY
    assert harness.audit().handlers[0].dead == MANY
    assert harness.audit().balances


def test_all_are_dropped_and_failures_added_meanwhile_stay(harness: Harness, store: FailureStore) -> None:
    die(harness, *map(str, range(MANY)))
    dropping = store.drop(DEAD, store.snapshot(DEAD))
    done = next(dropping).done
    die(harness, "new")
    done += sum(step.done for step in dropping)

    assert done == MANY
    assert len(ids(harness, DEAD.index)) == 1
    (at,) = harness.audit().handlers
    assert (at.dead, at.dropped, at.missing) == (1, MANY, 0)


def test_what_still_cannot_be_read_stays_and_is_reported_once(harness: Harness, store: FailureStore) -> None:
    harness.accept(quarantined=[quarantined(number, body=b"{}" if number % 2 else b"") for number in range(600)])
    steps = list(store.replay(QUARANTINE, store.snapshot(QUARANTINE)))

    failed = [failure for step in steps for failure in step.failed]
    assert sum(step.done for step in steps) == 300
    assert sorted(failure_id for failure_id, _ in failed) == sorted(ids(harness, keys.QUARANTINE))
    assert all(isinstance(why, StillUnreadable) and "$.data" in str(why) for _, why in failed)
    assert (harness.audit().quarantined, harness.audit().balances) == (300, True)


def test_a_body_in_another_shape_is_replayed_as_the_callbacks_that_it_holds(
    harness: Harness, store: FailureStore
) -> None:
    record = '{"message_id":"%s","status":"DELIVRD"}'
    callbacks = f'[{{"data":[{record % 1},{record % 2}]}},{{"data":[7]}},{{"reply_message_id":"3"}}]'
    harness.accept(quarantined=[quarantined(0, body=callbacks.encode()), quarantined(1, body=b"[7]")])

    (step,) = store.replay(QUARANTINE, store.snapshot(QUARANTINE))
    harness.expand()

    assert (step.done, [str(why) for _, why in step.failed]) == (1, ["Expected object, got int: $.data[0]"])
    sums = harness.audit()
    assert (sums.records["report"].unique, sums.records["reply"].unique) == (2, 1)
    assert (sums.quarantined, sums.balances) == (2, True)


def test_a_refused_body_is_replayed_with_what_its_headers_say_of_it(harness: Harness, store: FailureStore) -> None:
    reply = '{"reply_message_id":"%d","message":{"text":"Grüße"}}'
    headers = {"content-type": "application/json; charset=ISO-8859-1", "content-encoding": "gzip"}
    bodies = [gzip.compress((reply % number).encode("latin-1"), mtime=0) for number in (1, 2)]
    refused = [
        batches.Quarantined(
            kind="reply", source="gw", received_ms=RECEIVED_MS + n, error="", body=body, refused=400, headers=headers
        )
        for n, body in enumerate([bodies[0], bodies[0], bodies[0], bodies[1]])
    ]
    harness.accept(quarantined=refused)

    first, _ = [store.read_quarantined(failure_id) for failure_id in ids(harness, keys.QUARANTINE)]
    (step,) = store.replay(QUARANTINE, store.snapshot(QUARANTINE))
    harness.expand()

    assert (first.answered, first.repeats, first.headers, first.body) == (400, 2, headers, bodies[0])
    assert first.received_at < (first.last_at or "")
    assert (step.done, step.failed) == (2, ())
    sums = harness.audit()
    assert (sums.records["reply"].unique, sums.quarantined, sums.balances) == (2, 0, True)


@pytest.mark.parametrize("name", ["content-encoding", "transfer-encoding"])
@pytest.mark.parametrize("codings", ["gzip", "gzip, chunked", "GZIP , Chunked"])
def test_a_refused_body_is_replayed_without_its_compression_whichever_header_names_it(
    harness: Harness, store: FailureStore, name: str, codings: str
) -> None:
    if name == "content-encoding":
        codings = codings.partition(",")[0]
    refused = batches.Quarantined(
        kind="reply",
        source="gw",
        received_ms=RECEIVED_MS,
        error="",
        body=gzip.compress(b'{"reply_message_id":"1"}'),
        refused=400,
        headers={name: codings},
    )
    harness.accept(quarantined=[refused])

    (step,) = store.replay(QUARANTINE, store.snapshot(QUARANTINE))

    assert (step.done, step.failed) == (1, ())


def test_a_dead_letter_of_a_newer_release_does_not_stop_others_from_being_replayed(
    harness: Harness, store: FailureStore
) -> None:
    die(harness, "1", "2")
    newer, other = ids(harness, DEAD.index)
    harness.connection.hset(keys.dead_letter("refusing", newer), "event", '["letter"]')

    (step,) = store.replay(DEAD, store.snapshot(DEAD))

    assert (step.done, [failure_id for failure_id, _ in step.failed]) == (1, [newer])
    assert harness.waiting_event_ids(refusing) == [other]
    with pytest.raises(StillUnreadable):
        store.read_dead_letter("refusing", newer)


def test_a_missing_failure_is_an_error_only_if_it_was_named(harness: Harness, store: FailureStore) -> None:
    fill(harness, 1, 2, 3, 4)
    gone, left, last, lost = ids(harness, keys.QUARANTINE)
    harness.connection.delete(keys.quarantined(gone), keys.quarantined(lost))

    (named,) = store.replay(QUARANTINE, [gone, left])
    assert (named.done, [(failure_id, type(why)) for failure_id, why in named.failed]) == (1, [(gone, FailureNotFound)])
    (dropped,) = store.drop(QUARANTINE, [gone, last])
    assert (dropped.done, [failure_id for failure_id, _ in dropped.failed]) == (1, [gone])
    assert ids(harness, keys.QUARANTINE) == [lost]
    (every,) = store.replay(QUARANTINE, store.snapshot(QUARANTINE))
    assert (every.done, every.failed) == (0, ())


def test_large_bodies_are_read_a_few_at_a_time(harness: Harness, store: FailureStore) -> None:
    for number in range(6):
        body = b'{"data":[{"message_id":"%d","status":"SEEN","x":"%s"}]}' % (number, b"x" * (3 << 20))
        harness.accept(quarantined=[quarantined(number, body=body)])

    assert [step.done for step in store.replay(QUARANTINE, store.snapshot(QUARANTINE))] == [2, 2, 2]


def test_concurrent_replays_of_the_same_failures_replay_each_once(harness: Harness) -> None:
    fill(harness, *range(MANY))
    chosen = ids(harness, keys.QUARANTINE)
    done: list[int] = []

    def replay() -> None:
        with connections.connect(harness.url) as connection:
            done.extend(step.done for step in FailureStore(connection).replay(QUARANTINE, chosen))

    threads = [threading.Thread(target=replay) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(done) == len(harness.waiting_jobs("expand")) == MANY
    assert (checked_bytes(harness, keys.QUARANTINE), harness.audit().balances) == (0, True)
