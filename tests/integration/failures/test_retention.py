"""Lists of failures stay within their bytes and 30 days; what is dropped is counted, so the audit balances (I8)."""

import logging
import threading
from collections.abc import Iterator

import pytest

from shared import batches, connections, events, keys, retention
from shared.batches import Quarantined
from shared.schema import Kind
from tests.integration.failures.failure_lists import checked_bytes, die, ids, quarantined, refusing
from tests.integration.harness import Harness, open_harness, record, reply, status
from tests.redis_server import RedisServer
from workers.failures.failure_list import QUARANTINE, dead_letters_of
from workers.failures.retention import FailureTrimmer, TrimResult, TrimScript
from workers.failures.store import FailureStore

_KEPT_MS = retention.FAILURE_DAYS * keys.DAY_SECONDS * 1000
ROOM = 1 << 40
DEAD = keys.dead("refusing")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing) as made:
        yield made


def new_trimmer(harness: Harness, *, quarantine: int = ROOM, dead: int = ROOM) -> FailureTrimmer:
    return FailureTrimmer(connection=harness.connection, quarantine_max_bytes=quarantine, dead_letter_max_bytes=dead)


def age(harness: Harness, index: str, *failure_ids: str) -> None:
    """Make failures 30 days old."""
    for failure_id in failure_ids:
        harness.connection.zadd(index, {failure_id: batches.now_ms() - _KEPT_MS})


def test_what_is_30_days_old_is_dropped_and_counted_as_dropped(harness: Harness) -> None:
    now = batches.now_ms()
    old = now - _KEPT_MS
    kinds: list[tuple[Kind | None, int]] = [("status", 1), ("reply", 2), (None, 4)]
    harness.accept(
        quarantined=[
            Quarantined(kind=kind, source="gw", received_ms=at, error="$", body=b"{}", records=number)
            for kind, number in kinds
            for at in (old, now - 60_000)
        ]
    )
    die(harness, "1", "2")
    harness.accept(reply("m1"))
    harness.expand()
    harness.deliver(refusing)
    first, *others = ids(harness, DEAD)
    age(harness, DEAD, first, events.reply_id("gw", "m1"))

    new_trimmer(harness).tick()

    sums = harness.audit()
    assert {kind: (of.quarantined, of.dropped) for kind, of in sums.records.items()} == {
        "report": (1, 1), "reply": (2, 2), "unknown": (4, 4),
    }  # fmt: skip
    counts = harness.counters()
    assert counts["report.dead:refusing"] == counts["report.dropped:refusing"] == 1
    assert counts["reply.dropped:refusing"] == 1
    assert "reply.dead:refusing" not in counts
    assert sums.balances
    assert ids(harness, DEAD) == others[:1]
    assert len(harness.quarantine()) == 3
    assert checked_bytes(harness, DEAD) > 0
    assert checked_bytes(harness, keys.QUARANTINE) > 0


@pytest.mark.parametrize("index", [keys.QUARANTINE, DEAD])
def test_a_list_that_is_too_large_loses_its_oldest_and_no_more_than_needed(harness: Harness, index: str) -> None:
    now = batches.now_ms()
    harness.accept(quarantined=[quarantined(number, at_ms=now + number) for number in range(700)])
    die(harness, *map(str, range(700)))
    before = ids(harness, index)
    full = checked_bytes(harness, index)
    limit = full // 3

    new_trimmer(harness, **{"quarantine" if index == keys.QUARANTINE else "dead": limit}).tick()

    left = ids(harness, index)
    assert left == before[-len(left) :]
    oldest_gone = full // 700
    assert limit - oldest_gone - 100 < checked_bytes(harness, index) <= limit
    assert len(ids(harness, DEAD if index == keys.QUARANTINE else keys.QUARANTINE)) == 700
    assert harness.audit().balances
    assert harness.audit().dropped + harness.audit().handlers[0].dropped == 700 - len(left)


def test_a_failure_larger_than_the_limit_does_not_stay(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(1, body=b"x" * 5000, at_ms=batches.now_ms())])

    new_trimmer(harness, quarantine=5000).tick()

    assert (harness.quarantine(), checked_bytes(harness, keys.QUARANTINE)) == ([], 0)
    assert harness.audit().dropped == 1


def test_dead_letters_of_a_removed_handler_are_trimmed_too(harness: Harness) -> None:
    die(harness, "1", "2")
    harness.connection.hset(keys.COUNTS, "report.queued:later", 0)

    new_trimmer(harness, dead=1).tick()

    assert ids(harness, DEAD) == []
    assert not harness.connection.exists(keys.failures_bytes(DEAD))


def test_the_bytes_are_about_as_many_as_redis_uses(harness: Harness) -> None:
    before = harness.connection.info("memory")["used_memory"]
    for first in range(0, 5000, 500):
        harness.accept(quarantined=[quarantined(n, at_ms=batches.now_ms()) for n in range(first, first + 500)])
    spent = harness.connection.info("memory")["used_memory"] - before

    assert 0.8 < checked_bytes(harness, keys.QUARANTINE) / spent < 1.6


def test_a_failure_has_the_same_bytes_from_the_web_process_and_from_expand(harness: Harness) -> None:
    body = '{"data":[{"status":"Grüße"}]}'
    harness.accept(batches.Accepted("status", "gw", 1_700_000_000_000, 1, body))
    harness.expand()
    (entry,) = harness.quarantine()

    harness.accept(
        quarantined=[
            Quarantined(
                kind="status", source="gw", received_ms=1_700_000_000_000, error=entry["error"], body=body.encode()
            )
        ]
    )

    assert len({each["bytes"] for each in harness.quarantine()}) == 1
    assert checked_bytes(harness, keys.QUARANTINE) == 2 * int(entry["bytes"])


def test_a_commit_sent_twice_counts_its_bytes_once(harness: Harness) -> None:
    pipe, commands = harness.connection.pipeline(), batches.commit_commands([], [quarantined(1), quarantined(2)])
    for _ in range(2):
        for command in commands:
            pipe.execute_command(*command)
        pipe.execute()

    assert len(harness.quarantine()) == 2
    assert checked_bytes(harness, keys.QUARANTINE) > 0


def test_an_event_that_becomes_a_dead_letter_twice_counts_its_bytes_once(harness: Harness) -> None:
    for _ in range(2):
        harness.forget_marks()
        die(harness, "1")

    assert len(ids(harness, DEAD)) == 1
    assert checked_bytes(harness, DEAD) > 0


def test_the_bytes_of_a_replayed_or_dropped_failure_are_subtracted(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(1), quarantined(2), quarantined(3)])
    die(harness, "1", "2", "3")
    store = FailureStore(harness.connection)
    for each in (QUARANTINE, dead_letters_of("refusing")):
        first, second, third = ids(harness, each.index)
        before = checked_bytes(harness, each.index)
        assert [step.done for step in store.replay(each, [first])] == [1]
        assert [step.done for step in store.drop(each, [second])] == [1]
        assert (
            checked_bytes(harness, each.index)
            == int(harness.connection.hget(keys.failure(each.index, third), "bytes"))
            < before
        )


def test_a_step_drops_at_most_a_few_hundred_failures(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(number) for number in range(650)])
    script = TrimScript(harness.connection)

    assert script.run(QUARANTINE, until_ms=batches.now_ms()) == TrimResult(old=300, over=0, more=True)
    assert script.run(QUARANTINE, until_ms=0, max_bytes=0) == TrimResult(old=0, over=300, more=True)
    assert script.run(QUARANTINE, until_ms=batches.now_ms()) == TrimResult(old=50, over=0, more=False)
    assert (harness.audit().dropped, harness.audit().quarantined, harness.audit().balances) == (650, 0, True)


def test_an_expired_failure_leaves_the_index_and_stays_counted(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(1), quarantined(2)])
    gone, _ = ids(harness, keys.QUARANTINE)
    harness.connection.delete(keys.quarantined(gone))

    new_trimmer(harness).tick()

    assert ids(harness, keys.QUARANTINE) == []
    assert not harness.connection.exists(keys.failures_bytes(keys.QUARANTINE))
    assert (harness.audit().quarantined, harness.audit().dropped, harness.audit().balances) == (1, 1, True)


def test_what_is_dropped_is_logged_once_and_without_its_content(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.accept(quarantined=[quarantined(number) for number in range(400)])
    harness.accept(quarantined=[quarantined(401, at_ms=batches.now_ms())])

    with caplog.at_level(logging.WARNING, logger="callbacks.supervisor"):
        new_trimmer(harness, quarantine=1).tick()
        new_trimmer(harness, quarantine=1).tick()

    assert [line.getMessage() for line in caplog.records] == ["action=failures_dropped list=quarantine old=400 over=1"]
    with harness.connection.pipeline() as pipe:
        for why in ("age", "room"):
            pipe.hget(keys.METRICS, f"trimmed|quarantine|{why}")
        assert pipe.execute() == [b"400", b"1"], "an alert tells it from what operators drop"


def test_several_may_trim_at_once_while_failures_are_added(harness: Harness) -> None:
    def trim() -> None:
        with connections.connect(harness.url) as connection:
            for _ in range(20):
                FailureTrimmer(connection=connection, quarantine_max_bytes=50_000, dead_letter_max_bytes=ROOM).tick()

    threads = [threading.Thread(target=trim) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(0, 2000, 20):
        harness.accept(
            status(record(f"m{number}")),
            quarantined=[quarantined(n, at_ms=batches.now_ms()) for n in range(number, number + 20)],
        )
    for thread in threads:
        thread.join()
    new_trimmer(harness, quarantine=50_000).tick()

    assert checked_bytes(harness, keys.QUARANTINE) <= 50_000
    sums = harness.audit()
    assert (sums.quarantined, sums.quarantined + sums.dropped) == (len(harness.quarantine()), 2000)
    assert sums.balances
