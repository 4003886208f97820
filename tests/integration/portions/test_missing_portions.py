"""Events of a portion that somebody deleted: their jobs move to the failures, or are purged, and delay no other."""

import pytest

from shared import keys
from tests.integration.harness import HandlerTotals, Harness
from tests.integration.portions.sharing_handlers import accept_and_expand, called, first, second, work
from workers.admin.purge import Purger
from workers.failures import failed_jobs

MISSING = "Events of the job are missing"


@pytest.mark.parametrize("index", [0, 1], ids=["first", "coalesced"])
def test_events_that_somebody_deleted_are_logged_and_kept_as_a_dead_letter(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, index: int
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 4)
    monkeypatch.setattr("workers.deliver.prefetch.Prefetcher._prefetch_count", lambda _self: 100)
    for n in range(3):
        accept_and_expand(harness, f"{n}a", f"{n}b")
    job_id = harness.waiting_jobs("deliver-h0")[index]
    harness.connection.hdel(keys.PORTIONS, harness.connection.hget(keys.job(job_id), "portions"))

    work(harness, first)

    assert harness.totals(first) == HandlerTotals(delivered=4, dead=2)
    assert "action=job_failed" in caplog.text
    assert "error=EventsMissing" in caplog.text
    (letter,) = harness.dead_letters("h0")
    assert MISSING in letter["error"] + letter["traceback"]
    assert harness.connection.hlen(keys.PORTION_JOBS) == 3, "those of the other handler's jobs"
    work(harness, second)
    assert harness.totals(second) == HandlerTotals(delivered=4, dead=2)
    assert harness.audit().balances
    assert harness.leftover_keys() == set()


def test_a_missing_portion_takes_none_of_the_others_from_the_dead_letter(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 1)
    for n in range(3):
        accept_and_expand(harness, f"{n}a", f"{n}b")
    job_id, *others = harness.waiting_jobs("deliver-h0")
    names = [harness.connection.hget(keys.job(one), "portions") for one in (job_id, *others)]
    texts = harness.connection.hmget(keys.PORTIONS, names)
    harness.connection.hset(keys.job(job_id), mapping={"portions": b" ".join(names), "items": 6})
    for name in names[1:]:
        harness.connection.hincrby(keys.PORTION_JOBS, name, 1)
    harness.connection.hdel(keys.PORTIONS, names[1])

    harness.deliver(first, max_jobs=1)

    (letter_id,) = harness.connection.zrange(keys.dead("h0"), 0, -1)
    event, records = harness.connection.hmget(keys.dead_letter("h0", letter_id.decode()), "event", "records")
    assert records == b"6"
    assert texts[0] in event
    assert texts[2] in event


def test_what_a_dead_worker_finished_of_missing_events_is_purged_as_delivered(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    (job_id,) = harness.waiting_jobs("deliver-h0")
    harness.connection.hset(keys.job(job_id), mapping={"progress": "1", "finished": "2;0,1;"})
    harness.connection.delete(keys.PORTIONS)

    assert sum(purged.events for purged in Purger(harness.connection, "h0").run()) == 2

    assert harness.counters()["unknown.delivered:h0"] == 1
    assert harness.counters()["unknown.dropped:h0"] == 1


def test_events_that_somebody_deleted_can_be_purged(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    harness.connection.delete(keys.PORTIONS)

    assert [(purged.events, purged.unreadable) for purged in Purger(harness.connection, "h0").run()] == [(2, 0)]

    assert harness.totals(first) == HandlerTotals()
    assert harness.audit().balances


def test_a_run_does_not_coalesce_a_job_whose_events_are_missing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.deliver.prefetch.Prefetcher._prefetch_count", lambda _self: 100)
    for n in range(3):
        accept_and_expand(harness, str(n))
    job_id = harness.waiting_jobs("deliver-h0")[1]
    harness.connection.hdel(keys.PORTIONS, harness.connection.hget(keys.job(job_id), "portions"))

    harness.deliver(first, max_jobs=1)

    assert [name for _, name in called] == ["0"]
    assert harness.waiting_jobs("deliver-h0")[0] == job_id
