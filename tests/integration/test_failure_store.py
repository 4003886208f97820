"""The shelves, listed, replayed and dropped in bounded memory: each entry that stood there at the start, once."""

import threading
from collections.abc import Iterator

import pytest

from shared import batches, connections, keys
from tests.integration.shelves import die, ids, quarantined, refusing, weighed
from tests.integration.workbench import RECEIVED_MS, Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer
from workers.failures.failure import FailureNotFound, StillUnreadable
from workers.failures.failure_list import QUARANTINE, dead_letters_of
from workers.failures.store import FailureStore

DEAD = dead_letters_of("refusing")
# More than the shelves read at once, so that they have to go on from where they were.
MANY = 1100


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, refusing) as made:
        yield made


@pytest.fixture
def store(b: Bench) -> FailureStore:
    return FailureStore(b.connection)


def fill(b: Bench, *numbers: int, at_ms: int = RECEIVED_MS) -> None:
    b.keep(quarantined=[quarantined(number, at_ms=at_ms + number) for number in numbers])


def test_a_list_gives_each_entry_once_oldest_first(b: Bench, store: FailureStore) -> None:
    fill(b, *range(MANY))
    die(b, *map(str, range(MANY)))

    assert [row.id for row in store.list_quarantine()] == ids(b, keys.QUARANTINE)
    assert [row.id for row in store.list_dead_letters("refusing")] == ids(b, DEAD.index)
    assert [row.id for row in store.list_quarantine(skip=MANY - 2, limit=50)] == ids(b, keys.QUARANTINE)[-2:]
    assert [row.id for row in store.list_dead_letters("refusing", skip=3, limit=600)] == ids(b, DEAD.index)[3:603]
    assert list(store.list_quarantine(skip=MANY)) == []


def test_a_list_reads_no_bodies(b: Bench, store: FailureStore) -> None:
    b.keep(quarantined=[quarantined(number, body=b"x" * 100_000) for number in range(30)])
    before = b.connection.info("stats")["total_net_output_bytes"]

    rows = list(store.list_quarantine())

    assert len(rows) == 30
    assert rows[0].error == "an older rule"
    assert b.connection.info("stats")["total_net_output_bytes"] - before < 100_000


def test_all_are_replayed_and_what_comes_in_meanwhile_stays(b: Bench, store: FailureStore) -> None:
    fill(b, *range(MANY))
    chosen = store.snapshot(QUARANTINE)
    replaying = store.replay(QUARANTINE, chosen)
    done = next(replaying).done
    b.keep(quarantined=[quarantined(number, at_ms=batches.now_ms()) for number in range(MANY, MANY + 5)])
    done += sum(step.done for step in replaying)

    assert (chosen.size, done) == (MANY, MANY)
    assert len(ids(b, keys.QUARANTINE)) == 5
    b.expand()
    sums = b.audit()
    assert sums.records["report"].received == sums.unique == MANY
    assert (sums.quarantined, sums.balances) == (5, True)
    assert weighed(b, keys.QUARANTINE) > 0


def test_a_dead_letter_that_dies_again_meanwhile_is_not_replayed_again(b: Bench, store: FailureStore) -> None:
    die(b, *map(str, range(MANY)))
    done = 0
    for step in store.replay(DEAD, store.snapshot(DEAD)):
        done += step.done
        b.deliver(refusing)

    assert done == MANY
    assert len(ids(b, DEAD.index)) == MANY
    assert b.audit().handlers[0].dead == MANY
    assert b.audit().balances


def test_all_are_dropped_and_what_comes_in_meanwhile_stays(b: Bench, store: FailureStore) -> None:
    die(b, *map(str, range(MANY)))
    dropping = store.drop(DEAD, store.snapshot(DEAD))
    done = next(dropping).done
    die(b, "new")
    done += sum(step.done for step in dropping)

    assert done == MANY
    assert len(ids(b, DEAD.index)) == 1
    (at,) = b.audit().handlers
    assert (at.dead, at.dropped, at.missing) == (1, MANY, 0)


def test_what_still_cannot_be_read_stays_and_is_told_once(b: Bench, store: FailureStore) -> None:
    b.keep(quarantined=[quarantined(number, body=b"{}" if number % 2 else b"") for number in range(600)])
    steps = list(store.replay(QUARANTINE, store.snapshot(QUARANTINE)))

    failed = [failure for step in steps for failure in step.failed]
    assert sum(step.done for step in steps) == 300
    assert sorted(failure_id for failure_id, _ in failed) == sorted(ids(b, keys.QUARANTINE))
    assert all(isinstance(why, StillUnreadable) and "$.data" in str(why) for _, why in failed)
    assert (b.audit().quarantined, b.audit().balances) == (300, True)


def test_a_dead_letter_of_a_newer_release_keeps_no_other_from_being_replayed(b: Bench, store: FailureStore) -> None:
    die(b, "1", "2")
    newer, other = ids(b, DEAD.index)
    b.connection.hset(keys.dead_letter("refusing", newer), "event", '["letter"]')

    (step,) = store.replay(DEAD, store.snapshot(DEAD))

    assert (step.done, [failure_id for failure_id, _ in step.failed]) == (1, [newer])
    assert b.waiting_at(refusing) == [other]
    with pytest.raises(StillUnreadable):
        store.read_dead_letter("refusing", newer)


def test_what_is_gone_is_a_failure_only_where_it_was_named(b: Bench, store: FailureStore) -> None:
    fill(b, 1, 2, 3, 4)
    gone, left, last, lost = ids(b, keys.QUARANTINE)
    b.connection.delete(keys.quarantined(gone), keys.quarantined(lost))

    (named,) = store.replay(QUARANTINE, [gone, left])
    assert (named.done, [(failure_id, type(why)) for failure_id, why in named.failed]) == (1, [(gone, FailureNotFound)])
    (dropped,) = store.drop(QUARANTINE, [gone, last])
    assert (dropped.done, [failure_id for failure_id, _ in dropped.failed]) == (1, [gone])
    assert ids(b, keys.QUARANTINE) == [lost]
    (every,) = store.replay(QUARANTINE, store.snapshot(QUARANTINE))
    assert (every.done, every.failed) == (0, ())


def test_large_bodies_are_read_a_few_at_a_time(b: Bench, store: FailureStore) -> None:
    for number in range(6):
        body = b'{"data":[{"message_id":"%d","status":"SEEN","x":"%s"}]}' % (number, b"x" * (3 << 20))
        b.keep(quarantined=[quarantined(number, body=body)])

    assert [step.done for step in store.replay(QUARANTINE, store.snapshot(QUARANTINE))] == [2, 2, 2]


def test_of_several_who_replay_the_same_entries_one_does_each(b: Bench) -> None:
    fill(b, *range(MANY))
    chosen = ids(b, keys.QUARANTINE)
    done: list[int] = []

    def replay() -> None:
        with connections.connect(b.url) as connection:
            done.extend(step.done for step in FailureStore(connection).replay(QUARANTINE, chosen))

    threads = [threading.Thread(target=replay) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(done) == len(b.waiting("expand")) == MANY
    assert (weighed(b, keys.QUARANTINE), b.audit().balances) == (0, True)
