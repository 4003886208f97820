"""A sealed part that is damaged, or moved, costs no other; nor is sealed what only looks so."""

import pytest

from shared import batches, keys, queues, sealed_data, sealed_part
from shared.batches import Quarantined
from shared.number_search import NumberSearch
from shared.seal_keys import SealKey
from shared.sealed_part import MARK
from tests.integration.harness import Harness, due_now, open_harness, record, status
from tests.integration.sealed.conftest import OLD
from tests.integration.sealed.sealed_handlers import NUMBER, dies, first, letters_of, seen
from workers.failures import failed_jobs
from workers.failures.failure import StillUnreadable
from workers.failures.failure_list import dead_letters_of
from workers.failures.store import FailureStore
from workers.personal_data.failures import Failures
from workers.personal_data.report import StoreUnreadable


def damage(data: bytes, number: int) -> bytes:
    """Return the text with the last byte of a sealed part, the one with this number in it, changed."""
    part = sealed_part.unpack(data, data.find(MARK))
    for _ in range(number):
        part = sealed_part.unpack(data, data.find(MARK, part.end))
    return data[: part.end - 1] + bytes([data[part.end - 1] ^ 1]) + data[part.end :]


def job_with_damage(harness: Harness, *, others: int) -> None:
    harness.accept(status(*(record(str(number)) for number in range(others)), record("d", to=NUMBER)))
    harness.expand()
    (job_id,) = harness.waiting_jobs(queues.delivery_queue("first"))
    data = harness.connection.hget(keys.job(job_id), "data")
    harness.connection.hset(keys.job(job_id), "data", damage(data, others))


def test_a_damaged_event_costs_no_other_and_counts_as_one_that_may_mention_any_number(url: str) -> None:
    with open_harness(url, first) as harness:
        job_with_damage(harness, others=9)
        for _ in range(3):
            harness.deliver(first)
            due_now(harness, first)
        harness.deliver(first)

        assert len(seen) == 9
        ((letter_id, _),) = harness.connection.zrange(keys.dead("first"), 0, -1, withscores=True)
        (result,) = FailureStore(harness.connection).replay(dead_letters_of("first"), [letter_id.decode()])
        assert [type(error) for _, error in result.failed] == [StillUnreadable]
        failures = Failures(harness.connection, NumberSearch(["35699000000"]))
        erased = failures.erase(dry_run=False)
        assert (erased.found, erased.unreadable, erased.is_complete) == (0, 1, False)
        assert "damaged" in erased.why
        with pytest.raises(StoreUnreadable, match="1 failure not read: some of it is sealed and damaged: drop it"):
            list(failures.export())
        assert harness.audit().balances


def test_if_a_job_with_a_damaged_event_moves_to_the_failures_each_event_is_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 1)
    with open_harness(url, first) as harness:
        job_with_damage(harness, others=9)
        harness.deliver(first)
        monkeypatch.undo()

        found = Failures(harness.connection, NumberSearch(["35699000001"])).erase(dry_run=False)
        assert (found.found, found.erased, found.unreadable) == (9, 9, 1)
        assert harness.audit().balances


@pytest.mark.parametrize("queue", [queues.EXPAND, queues.delivery_queue("first")])
def test_a_job_that_is_kept_whole_as_a_failure_may_mention_any_number(
    queue: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 1)
    with open_harness(url, first) as harness:
        harness.accept(status(record("1"), record("2")))
        if queue != queues.EXPAND:
            harness.expand()
        (job_id,) = harness.waiting_jobs(queue)
        data = harness.connection.hget(keys.job(job_id), "data")
        # Where the last part ends is damaged, so it is not known how many there are.
        harness.connection.hset(keys.job(job_id), "data", data.replace(MARK, MARK + MARK, 1))
        if queue == queues.EXPAND:
            harness.expand()
        else:
            harness.deliver(first)

        found = Failures(harness.connection, NumberSearch(["35699777999"])).erase(dry_run=False)
        assert (found.found, found.unreadable) == (0, 1)


def test_what_was_moved_to_another_failure_does_not_open_there(url: str) -> None:
    with open_harness(url, dies) as harness:
        harness.accept(status(record("1"), record("2")))
        harness.expand()
        harness.deliver(dies)
        failures = FailureStore(harness.connection)
        one, other = letters_of(harness)
        event = harness.connection.hget(keys.dead_letter("dies", one.id), "event")
        harness.connection.hset(keys.dead_letter("dies", other.id), "event", event)

        with pytest.raises(StillUnreadable, match="moved here from another place"):
            failures.read_dead_letter("dies", other.id)


@pytest.mark.parametrize("later", [[], [OLD]])
def test_a_body_that_looks_sealed_is_what_it_was(url: str, later: list[SealKey]) -> None:
    body = sealed_part.pack(bytes(16), 1, bytes(20))
    refused = Quarantined(kind="reply", source="gw", received_ms=batches.now_ms(), error="odd", body=body, refused=400)
    sealed_data.use([])
    with open_harness(url, first) as harness:
        harness.accept(quarantined=[refused])
        sealed_data.use(later)
        failures = FailureStore(harness.connection)
        (failure_id,) = (one.decode() for one in harness.connection.zrange(keys.QUARANTINE, 0, -1))
        result = Failures(harness.connection, NumberSearch([NUMBER])).erase(dry_run=False)

        assert failures.read_quarantined(failure_id).body == body
        assert result.is_complete
        harness.accept(quarantined=[refused])
        assert failures.read_quarantined(failure_id).body == body
