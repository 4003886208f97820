"""Handlers with one fault each, tested as their authors would; `caught_by` names the checks that must fail.

Run by `test_conformance.py` in a pytest of its own, as a user's test module.
"""

import asyncio
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from callbacks import Event, Reject, ReplyEvent, ReportEvent, Retry, handler, samples
from callbacks.testing import Conformance

EVERY, ODD = "every_event_is_handled_or_rejected_with_a_reason", "odd_texts_are_handled_or_rejected_with_a_reason"
MISSING, UNKNOWN = "any_field_may_be_missing", "an_unknown_status_is_handled_or_rejected_with_a_reason"
TWICE, OTHERS = "the_same_event_twice_is_one_effect", "a_bad_event_harms_no_other"
TIMEOUT = "ended_by_a_timeout_anywhere_it_is_one_effect_at_the_next_attempt"
OPEN = "nothing_is_left_open"
FORGET = "forget_erases_one_person_alone"

KEPT: list[str] = []
OPENED: list[object] = []


def keep(event: Event) -> None:
    if event.id not in KEPT:
        KEPT.append(event.id)


class Case(Conformance):
    caught_by: ClassVar[frozenset[str]] = frozenset()


class Stored(Case):
    def effects(self) -> Collection[object]:
        return list(KEPT)


@handler(ReplyEvent)
def shout(event: ReplyEvent) -> None:
    assert event.text is not None
    keep(event)


class TestFailsAtStickers(Stored):
    handler = shout
    caught_by = frozenset({EVERY, MISSING})


@handler(ReportEvent)
def by_first_digit(event: ReportEvent) -> None:
    assert event.recipient is not None
    keep(event)


class TestFailsWithoutRecipient(Stored):
    handler = by_first_digit
    caught_by = frozenset({EVERY, MISSING})


@handler(ReplyEvent)
def latin(event: ReplyEvent) -> None:
    (event.text or "").encode("latin-1")
    keep(event)


class TestFailsAtOddTexts(Stored):
    handler = latin
    caught_by = frozenset({ODD})


@handler(ReplyEvent)
def silent(event: ReplyEvent) -> None:
    if event.text is None:
        raise Reject
    keep(event)


class TestRefusesWithoutAWord(Stored):
    handler = silent
    caught_by = frozenset({EVERY, MISSING})


@handler(ReportEvent, channels={"VIBER"})
def known_statuses(event: ReportEvent) -> None:
    {"DELIVRD": 1, "SEEN": 2}.get(event.status, 0)
    if event.status in ("read", "1"):
        raise KeyError(event.status)
    keep(event)


class TestFailsAtUnknownStatuses(Stored):
    handler = known_statuses
    caught_by = frozenset({UNKNOWN})


@handler(ReportEvent)
def counted_twice(event: ReportEvent) -> None:
    KEPT.append(event.id)


class TestCountsRepetitions(Stored):
    handler = counted_twice
    caught_by = frozenset({TWICE})


@handler(ReportEvent)
def fails_at_repetitions(event: ReportEvent) -> None:
    if event.id in KEPT:
        raise ValueError("known already")
    KEPT.append(event.id)


class TestFailsAtRepetitions(Stored):
    handler = fails_at_repetitions
    caught_by = frozenset({TWICE})


@handler(ReportEvent)
def idle(_event: ReportEvent) -> None:
    return


class TestDoesNothing(Stored):
    handler = idle
    caught_by = frozenset({TWICE})


@handler(ReportEvent)
def never(_event: ReportEvent) -> None:
    raise Retry(after_seconds=60)


class TestTakesNothing(Stored):
    handler = never
    caught_by = frozenset({TWICE, TIMEOUT})


@handler(ReportEvent, ReplyEvent, batch=True)
def until_the_first_odd_one(events: Sequence[Event]) -> None:
    for event in events:
        if event.kind == "reply" and event.text is None:
            return
        keep(event)


class TestDropsTheRestOfABatch(Stored):
    handler = until_the_first_odd_one
    caught_by = frozenset({OTHERS})


@handler(ReportEvent, batch=True)
def first_only(events: Sequence[Event]) -> None:
    if any(event.kind == "report" and event.status == "POISON" for event in events):
        return  # as if nothing were in this batch
    for event in events:
        keep(event)


class TestLosesTheNeighboursOfABadEvent(Stored):
    handler = first_only
    caught_by = frozenset({OTHERS})

    def bad_events(self) -> Sequence[Event]:
        return [samples.report("POISON")]


@handler(ReportEvent)
def hides_timeouts(event: ReportEvent) -> None:
    try:
        len(event.raw)
        keep(event)
    except BaseException:  # noqa: BLE001 # the fault
        pass


class TestHidesTimeouts(Stored):
    handler = hides_timeouts
    caught_by = frozenset({TIMEOUT})


MARKED: set[str] = set()


@handler(ReportEvent)
def marks_first(event: ReportEvent) -> None:
    if event.id in MARKED:
        return
    MARKED.add(event.id)
    KEPT.append(event.id)


class TestMarksBeforeItActs(Stored):
    handler = marks_first
    caught_by = frozenset({TIMEOUT})


@handler(ReplyEvent, concurrency=4)
async def hides_cancellation(event: ReplyEvent) -> None:
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return
    keep(event)


class TestHidesCancellation(Stored):
    handler = hides_cancellation
    caught_by = frozenset({TIMEOUT})


@handler(ReportEvent)
def leaves_thread(event: ReportEvent) -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    keep(event)


class TestLeavesThreads(Stored):
    handler = leaves_thread
    caught_by = frozenset({OPEN})


@contextmanager
def connection() -> Iterator[None]:
    OPENED.append(socket.socket())
    yield


@handler(ReportEvent, lifespan=connection)
def leaves_socket(event: ReportEvent) -> None:
    keep(event)


class TestLeavesSockets(Stored):
    handler = leaves_socket
    caught_by = frozenset({OPEN})


@handler(ReportEvent)
async def leaves_task(event: ReportEvent) -> None:
    OPENED.append(asyncio.create_task(asyncio.sleep(3600)))
    keep(event)


class TestLeavesTasks(Stored):
    handler = leaves_task
    caught_by = frozenset({OPEN})


LOCK = threading.Lock()


@handler(ReportEvent, ReplyEvent, batch=True)
def good_batch(events: Sequence[Event]) -> None:
    with LOCK, closing(sqlite3.connect("good.db")) as database:
        try:
            database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")
            with database:
                database.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(event.id,) for event in events])
        finally:
            database.execute("SELECT 1")


class TestGoodBatch(Case):
    handler = good_batch

    def effects(self) -> Collection[object]:
        if not Path("good.db").exists():
            return []
        with closing(sqlite3.connect("good.db")) as database:
            found: list[object] = database.execute("SELECT name FROM sqlite_master WHERE name = 'seen'").fetchall()
            return database.execute("SELECT id FROM seen").fetchall() if found else []


@asynccontextmanager
async def ticking() -> AsyncIterator[None]:
    task = asyncio.create_task(asyncio.sleep(3600))
    yield
    task.cancel()
    await asyncio.wait([task])


@handler(ReportEvent, ReplyEvent, sources={"shop"}, concurrency=8, lifespan=ticking)
async def good_async(event: Event) -> None:
    if event.channel == "CARRIER PIGEON":
        raise Reject("pigeons are not taken")
    await asyncio.sleep(0)
    await asyncio.to_thread(keep, event)


class TestGoodAsync(Stored):
    @pytest.fixture
    def callbacks_handler(self) -> object:
        return good_async


class TestForgetsEverybody(Case):
    caught_by = frozenset((FORGET,))
    numbers: ClassVar[dict[str, str | None]] = {}

    @staticmethod
    def erase(number: str) -> int:
        erased = len(TestForgetsEverybody.numbers)
        TestForgetsEverybody.numbers.clear()
        return erased

    @pytest.fixture
    def callbacks_handler(self) -> object:
        @handler(ReportEvent, forget=self.erase)
        def stores(event: ReportEvent) -> None:
            self.numbers[event.id] = event.recipient

        return stores

    def effects(self) -> Collection[object]:
        return list(self.numbers.items())
