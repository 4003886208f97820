"""A chunk is split, half by half, down to single events; each half stands for the same records of its job."""

import itertools

import pytest

from shared.batches import Accepted
from workers.expand.fan_out import MAX_ITEM_EVENTS, Chunk, ChunkItem
from workers.expand.forgotten import ForgottenNumbers, ForgottenRecords
from workers.runtime.claim import ClaimedJob
from workers.runtime.settlement import FanOutEvents

JOB = ClaimedJob("job", "0", [], coalesced=True)
ORIGIN = Accepted("reply", "gw", 1, 3, "{}")


def offer(*numbers: int) -> FanOutEvents:
    """Return replies with two marks each."""
    marks = [f"{name}{number}" for number in numbers for name in ("id ", "request ")]
    return FanOutEvents("reply", "1", marks, [b"%d" % number for number in numbers])


def chunk(*items: ChunkItem, max_bytes: int = 1000) -> Chunk:
    return Chunk(max_events=100, max_bytes=max_bytes).with_items(*items)


def split(whole: Chunk) -> list[Chunk]:
    halves = whole.halves()
    return [whole] if halves is None else [part for half in halves for part in split(half)]


def test_a_chunk_is_split_down_to_single_events_whose_settlements_follow_one_another() -> None:
    items = [
        ChunkItem(JOB, 7, ORIGIN, offer(0, 1, 2)),
        ChunkItem(JOB, 10, ORIGIN, ForgottenRecords("reply", 5)),
        ChunkItem(JOB, 15, ORIGIN, offer(3, 4)),
        ChunkItem(JOB, 17),
    ]

    parts = split(chunk(*items))

    offers = [one for part in parts for one in part.offers]
    assert [one.events for one in offers] == [[b"0"], [b"1"], [b"2"], [b"3"], [b"4"]]
    assert [one.marks for one in offers] == [[f"id {n}", f"request {n}"] for n in range(5)]
    settled = [settlement for part in parts for settlement in part.settlements()]
    assert [one.start for one in settled] == ["7", "8", "9", "10", "15", "16", "17"]
    assert all(one.end == following.start for one, following in itertools.pairwise(settled))
    assert [one.ends for one in settled] == [False] * 6 + [True]


@pytest.mark.parametrize("size", [1, MAX_ITEM_EVENTS])
def test_a_chunk_never_has_more_events_than_its_limit(size: int) -> None:
    filling = chunk()
    numbers = itertools.count()

    while not filling.add(ChunkItem(JOB, 0, ORIGIN, offer(*itertools.islice(numbers, size)))):
        pass

    assert 100 - MAX_ITEM_EVENTS < sum(one.records for one in filling.offers) <= 100


def test_a_chunk_is_full_with_its_bytes() -> None:
    filling = chunk(max_bytes=6)
    assert not filling.add(ChunkItem(JOB, 0, ORIGIN, offer(10, 11)))
    assert filling.add(ChunkItem(JOB, 2, ORIGIN, offer(12)))


def test_of_several_events_only_those_that_mention_a_forgotten_number_are_dropped() -> None:
    numbers = ForgottenNumbers(b"key", [])
    numbers._mentioned_in = lambda data: data == b"1"  # type: ignore[method-assign]

    assert list(numbers.replace(offer(0, 1, 2))) == [offer(0), ForgottenRecords("reply", 1), offer(2)]
    assert list(numbers.replace(offer(0, 2))) == [offer(0, 2)]
