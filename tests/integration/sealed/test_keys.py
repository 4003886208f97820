"""Keys come and go: what is sealed with one that is not there waits for it, and nothing else does."""

import math
from typing import Any

import pytest

from callbacks import Event, Pause, ReplyEvent, ReportEvent, handler
from shared import batches, keys, live, queue_jobs, queues, sealed_data, sealed_part
from shared.batches import Quarantined
from shared.live import SealedEvents
from shared.number_search import NumberSearch
from shared.seal_keys import SealKey
from shared.sealed_part import MARK
from tests.integration.harness import Harness, due_now, open_harness, record, reply, status
from tests.integration.sealed.conftest import NEW, OLD
from workers.admin.action_log import Action
from workers.admin.bulk_action import BulkActions, RemainingRetries
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.failures import failed_jobs
from workers.failures.failure import DeadLetterSummary, StillUnreadable
from workers.failures.failure_list import dead_letters_of
from workers.failures.store import FailureStore
from workers.personal_data.action_work import ActionWork
from workers.personal_data.erasure import erase_until_clean
from workers.personal_data.failures import Failures
from workers.personal_data.jobs import WaitingJobs
from workers.personal_data.report import StoreUnreadable
from workers.runtime import pause

NUMBER = "35699777123"
seen: list[str] = []


@handler(ReportEvent, ReplyEvent)
def first(event: Event) -> None:
    seen.append(event.id)


@handler(ReportEvent, ReplyEvent)
def second(event: Event) -> None:
    seen.append(event.id)


@handler(ReportEvent, attempts=1)
def dies(event: Event) -> None:
    raise ValueError(f"nobody has {event.recipient}")


@handler(ReportEvent)
def pauses(_event: Event) -> None:
    raise Pause(3600, "closed")


@pytest.fixture(autouse=True)
def _forget_seen() -> None:
    seen.clear()


def expand_later(harness: Harness) -> None:
    """Expand what waits, and what failed and is scheduled."""
    for job_id, _ in harness.connection.zrange(keys.rq_scheduled(queues.EXPAND), 0, -1, withscores=True):
        harness.connection.zadd(keys.rq_scheduled(queues.EXPAND), {job_id: 1})
    keeper = harness.maintenance(first)
    keeper.tick([])
    keeper.close()
    harness.expand()


def letters_of(harness: Harness) -> list[DeadLetterSummary]:
    ids = [failure_id.decode() for failure_id in harness.connection.zrange(keys.dead("dies"), 0, -1)]
    return [*FailureStore(harness.connection).read_summaries("dies", ids)]


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


def test_forget_erases_what_is_sealed_and_names_what_it_cannot_open(url: str) -> None:
    search = NumberSearch([NUMBER])
    with open_harness(url, first, dies) as harness:
        harness.accept(status(record("1", to=NUMBER), record("2")))
        harness.expand()
        harness.deliver(dies)
        harness.accept(status(record("3", to=NUMBER), record("4")))
        sealed_data.use([NEW])
        stores: tuple[Any, ...] = (WaitingJobs(harness.connection, search), Failures(harness.connection, search))
        unopened = [store.erase(dry_run=False) for store in stores]
        assert [result.erased for result in unopened] == [0, 0]
        # It does not wait for a key.
        assert erase_until_clean(stores, dry_run=False, wait_seconds=math.inf)[0].unreadable == 2
        assert all(result.unreadable and "CALLBACKS_SEAL_KEYS_FILE" in result.why for result in unopened)

        sealed_data.use([NEW, OLD])
        assert [len([*store.export()]) for store in stores] == [2, 1]
        ended = [store.erase(dry_run=False) for store in stores]
        assert [(result.erased, result.left) for result in ended] == [(2, 0), (1, 0)]
        harness.expand()
        harness.deliver(first)
        assert len(seen) == 2
        assert harness.audit().balances


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


@pytest.mark.parametrize("is_sealed", [True, False])
def test_forget_deletes_what_is_left_of_an_action_that_searches_for_the_number(url: str, is_sealed: bool) -> None:
    sealed_data.use([OLD] if is_sealed else [])
    with open_harness(url, dies) as harness:
        actions = BulkActions(harness.connection)
        logged = Action(who="anna", by="page", what="retry", where="retries", chosen="some")
        ids = [
            actions.start(logged, RemainingRetries(retry_filter=RetryFilter(error=text), cursor=RetryCursor()))
            for text in (f"nobody has +{NUMBER}", "time-out")
        ]
        store = ActionWork(harness.connection, NumberSearch([NUMBER]))
        found = [store.erase(dry_run=True).found, len([*store.export()]), store.erase(dry_run=False).erased]
        states = [actions.get_state(action_id) for action_id in ids]

        assert found == [1, 1, 1]
        assert [state is not None and state.work is not None for state in states] == [False, True]
        sealed_data.use([NEW])
        unopened = store.erase(dry_run=False)
        assert (unopened.erased, unopened.unreadable) == (0, is_sealed)
        sealed_data.use([OLD])
        state = actions.get_state(ids[1])
        assert state is not None
        assert state.work is not None  # a process that has the key runs it


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
