"""Keys come and go: what is sealed with one that is not there waits for it, and nothing else does."""

import pytest

from callbacks import ReportEvent
from shared import keys, live, queue_jobs, queues, sealed_data
from shared.live import SealedEvents
from tests.integration.harness import Harness, due_now, open_harness, record, reply, status
from tests.integration.sealed.conftest import NEW, OLD
from tests.integration.sealed.sealed_handlers import NUMBER, dies, first, letters_of, pauses, second, seen
from workers.failures import failed_jobs
from workers.failures.failure import StillUnreadable
from workers.failures.failure_list import dead_letters_of
from workers.failures.store import FailureStore
from workers.runtime import pause


def expand_later(harness: Harness) -> None:
    """Expand what waits, and what failed and is scheduled."""
    for job_id, _ in harness.connection.zrange(keys.rq_scheduled(queues.EXPAND), 0, -1, withscores=True):
        harness.connection.zadd(keys.rq_scheduled(queues.EXPAND), {job_id: 1})
    keeper = harness.maintenance(first)
    keeper.tick([])
    keeper.close()
    harness.expand()


def test_what_was_stored_before_there_was_a_key_is_read_together_with_what_is_sealed(url: str) -> None:
    with open_harness(url, first, second) as harness:
        sealed_data.use([])
        harness.accept(status(record("1"), record("2")))
        harness.expand()
        harness.accept(status(record("3")))
        sealed_data.use([OLD])
        harness.accept(status(record("4"), record("1")))
        harness.expand()
        harness.deliver(first)
        harness.deliver(second)

        assert len(seen) == 8
        assert harness.audit().balances
        assert harness.leftover_keys() == set()


def test_of_a_bundle_the_repeats_are_left_out_and_the_others_open(url: str) -> None:
    with open_harness(url, first, second) as harness:
        harness.accept(status(*(record(str(number)) for number in range(0, 20, 3))))
        harness.expand()
        harness.accept(status(*(record(str(number)) for number in range(20))), reply("r", text="ja, süß"))
        harness.expand()
        harness.deliver(first)

        assert len(seen) == len(set(seen)) == 21


def test_after_a_rotation_the_new_key_seals_and_the_old_one_opens(url: str) -> None:
    with open_harness(url, first, second) as harness:
        harness.accept(status(record("1")))
        sealed_data.use([NEW, OLD])
        harness.accept(status(record("2")))
        harness.expand()
        harness.deliver(first)
        portions = harness.connection.hvals(keys.PORTIONS)

        assert len(seen) == 2
        assert portions
        assert all(NEW.id in portion and OLD.id not in portion for portion in portions)
        sealed_data.use([NEW])
        harness.deliver(second)
        assert len(seen) == 4


def test_a_job_whose_key_is_missing_waits_for_it_and_costs_no_other(url: str) -> None:
    with open_harness(url, first, second) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        harness.accept(status(record("2")))
        sealed_data.use([NEW])
        harness.accept(status(record("3")))
        harness.expand()
        harness.deliver(first)
        for _ in range(3):
            expand_later(harness)
            due_now(harness, first)
            harness.deliver(first)

        assert len(seen) == 1
        assert harness.quarantine() == []
        assert harness.dead_letters("first") == []
        assert harness.audit().balances
        sealed_data.use([NEW, OLD])
        expand_later(harness)
        due_now(harness, first)
        for function in (first, second):
            harness.deliver(function)
        assert len(seen) == 6
        assert harness.leftover_keys() == set()


def test_it_waits_for_longer_than_any_job_that_fails(url: str) -> None:
    with open_harness(url, first) as harness:
        harness.accept(status(record("1")))
        (job_id,) = harness.waiting_jobs(queues.EXPAND)
        harness.connection.hset(keys.job(job_id), "failures", 1000)
        sealed_data.use([NEW])
        harness.expand()

        assert harness.connection.zcard(keys.rq_scheduled(queues.EXPAND)) == 1
        with pytest.raises(sealed_data.SealKeyMissing, match=OLD.id.hex()):
            queue_jobs.read_stored(harness.connection, [job_id])[0].arguments()


def test_the_runs_that_waited_for_the_key_bring_no_job_nearer_to_the_failures(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 3)
    with open_harness(url, first) as harness:
        harness.accept(status(record("1")))
        sealed_data.use([NEW])
        harness.expand()
        for _ in range(4):
            expand_later(harness)
        (job_id,) = (member.decode() for member in harness.connection.zrange(keys.rq_scheduled(queues.EXPAND), 0, -1))
        assert int(harness.connection.hget(keys.job(job_id), "failures")) == 5

        job = failed_jobs.FailedJob(harness.connection, queues.EXPAND, job_id)
        assert job.failures == 1
        monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 1)
        assert job.replacement(OSError("the disk is full"), {}) is None  # as long as nobody can read it
        sealed_data.use([NEW, OLD])
        expand_later(harness)
        harness.deliver(first)
        assert len(seen) == 1
        assert harness.quarantine() == []


def test_a_failure_whose_key_is_missing_is_listed_and_stays(url: str) -> None:
    with open_harness(url, dies) as harness:
        harness.accept(status(record("1", to=NUMBER)))
        harness.expand()
        harness.deliver(dies)
        sealed_data.use([NEW])
        failures = FailureStore(harness.connection)
        (listed,) = letters_of(harness)

        assert listed.error.startswith(f"sealed with key {OLD.id.hex()}, which is not in CALLBACKS_SEAL_KEYS_FILE")
        assert listed.number is None
        (result,) = failures.replay(dead_letters_of("dies"), [listed.id])
        assert [(failure_id, type(error)) for failure_id, error in result.failed] == [(listed.id, StillUnreadable)]
        assert "sealed with key" in str(result.failed[0][1])
        sealed_data.use([OLD])
        (opened,) = letters_of(harness)
        assert opened.number == NUMBER
        assert "nobody has" in opened.error


def test_a_failure_that_is_dropped_counts_as_its_kind(url: str) -> None:
    with open_harness(url, dies) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        harness.deliver(dies)
        failures = FailureStore(harness.connection)
        (letter,) = letters_of(harness)
        (result,) = failures.drop(dead_letters_of("dies"), [letter.id])

        assert result.done == 1
        assert harness.counters()["report.dropped:dies"] == 1
        assert harness.audit().balances


def test_without_the_key_an_operator_sees_why_a_text_is_missing(url: str) -> None:
    with open_harness(url, pauses) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        harness.deliver(pauses)
        sealed_data.use([])
        state = pause.read_state(harness.connection, "pauses")

        assert state is not None
        assert state.reason.startswith(f"sealed with key {OLD.id.hex()}")


def test_who_watches_new_events_sees_them(url: str) -> None:
    with open_harness(url, first) as harness, harness.connection.pubsub(ignore_subscribe_messages=True) as feed:
        feed.subscribe(live.channel(harness.connection))
        feed.get_message(timeout=10)
        harness.accept(status(record("1", to=NUMBER), record("2")))
        harness.expand()
        message = feed.get_message(timeout=10)["data"]

        assert NUMBER.encode() not in message
        assert [one.recipient for one in live.parse_message(message) if isinstance(one, ReportEvent)] == [
            NUMBER,
            "35699000001",
        ]


def test_a_watcher_without_the_key_is_told_which_one_is_missing() -> None:
    message = b"[1,0,[" + sealed_data.seal(b'["report"]', sealed_data.EVENTS) + b"]]"
    sealed_data.use([])

    (found,) = live.parse_message(message)

    assert isinstance(found, SealedEvents)
    assert found.error.startswith(f"sealed with key {OLD.id.hex()}, and CALLBACKS_SEAL_KEYS_FILE is not set")
