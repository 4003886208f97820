"""Group commit without Redis: who shares a batch, who hears of what, and what happens at the end."""

import asyncio
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.group_commit import BatchEntry, GroupCommit, PendingEntry, take_batch
from shared.background import Background
from shared.batches import Accepted
from shared.errors import StoreUnavailable


class FailureList:
    """A store in memory that writes when it is told to, and fails as it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.writing = asyncio.Event()
        self.fails: Exception | None = None
        self.poison = ""

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        self.writing.set()
        await self.may_write.wait()
        if self.fails is not None:
            raise self.fails
        bodies = [entry.body for entry in batch if isinstance(entry, Accepted)]
        if self.poison in bodies:
            raise KeyError(self.poison)
        self.batches.append(bodies)

    async def close(self) -> None:
        """Nothing to give back."""


def callback(body: str) -> Accepted:
    return Accepted("status", "gateway", 0, 1, body)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_idle_a_callback_is_committed_alone_at_once() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        await commit.accept(callback("a"), 1)
        await commit.accept(callback("b"), 1)
        assert shelf.batches == [["a"], ["b"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_those_that_arrive_during_a_commit_share_the_next() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        shelf.may_write.clear()
        first = asyncio.create_task(commit.accept(callback("first"), 1))
        await shelf.writing.wait()
        others = [asyncio.create_task(commit.accept(callback(str(number)), 1)) for number in range(100)]
        await settle()
        assert not first.done()
        shelf.may_write.set()
        await asyncio.gather(first, *others)
        assert shelf.batches == [["first"], [str(number) for number in range(100)]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_nobody_is_told_before_the_store_has_written() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        shelf.may_write.clear()
        keeping = asyncio.create_task(commit.accept(callback("a"), 1))
        await shelf.writing.wait()
        await settle()
        assert not keeping.done()
        shelf.may_write.set()
        await keeping
        assert shelf.batches == [["a"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_a_batch_that_is_not_kept_is_told_to_each_of_its_senders_and_the_next_goes_on() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        shelf.fails = StoreUnavailable("no room", retry_after_seconds=7)
        told = await asyncio.gather(*(commit.accept(callback(body), 1) for body in "abc"), return_exceptions=True)
        assert [(type(exc), str(exc), getattr(exc, "retry_after_seconds", 0)) for exc in told] == [
            (StoreUnavailable, "no room", 7)
        ] * 3
        assert len({id(exc) for exc in told}) == 3
        shelf.fails = None
        await commit.accept(callback("d"), 1)
        assert shelf.batches == [["d"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_one_that_breaks_the_store_does_not_take_its_siblings_along(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        shelf = FailureList()
        shelf.poison = "text of a person"
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        told = await asyncio.gather(
            *(commit.accept(callback(body), 1) for body in ("a", "text of a person", "c")), return_exceptions=True
        )
        assert [type(outcome) for outcome in told] == [type(None), StoreUnavailable, type(None)]
        assert shelf.batches == [["a"], ["c"]]
        commit.close()
        await running

    asyncio.run(scenario())
    assert "action=unexpected_error where=commit KeyError" in caplog.text
    assert "text of a person" not in caplog.text


def test_a_sender_that_goes_away_harms_nobody_and_its_callback_is_kept() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        shelf.may_write.clear()
        keeping = [asyncio.create_task(commit.accept(callback(body), 1)) for body in "abc"]
        await shelf.writing.wait()
        keeping[0].cancel()
        keeping[1].cancel()
        await settle()
        shelf.may_write.set()
        await keeping[2]
        assert shelf.batches == [["a", "b", "c"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_at_the_end_what_waits_is_committed_and_nothing_more_is_taken() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf, max_callbacks=2)
        running = asyncio.create_task(commit.run())
        shelf.may_write.clear()
        keeping = [asyncio.create_task(commit.accept(callback(body), 1)) for body in "abcde"]
        await shelf.writing.wait()
        commit.close()
        with pytest.raises(StoreUnavailable):
            await commit.accept(callback("late"), 1)
        shelf.may_write.set()
        await running
        await asyncio.gather(*keeping)
        assert shelf.batches == [["a", "b"], ["c", "d"], ["e"]]

    asyncio.run(scenario())


@given(sizes=st.lists(st.integers(0, 50), min_size=1), max_callbacks=st.integers(1, 10), max_bytes=st.integers(1, 100))
def test_batches_keep_the_order_and_both_limits(sizes: list[int], max_callbacks: int, max_bytes: int) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        waiting = deque(
            PendingEntry(callback(str(place)), size, loop.create_future()) for place, size in enumerate(sizes)
        )
        everything = list(waiting)
        batches = []
        while waiting:
            batches.append(take_batch(waiting, max_callbacks=max_callbacks, max_bytes=max_bytes))
        assert [one for batch in batches for one in batch] == everything
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            size_bytes = sum(one.size_bytes for one in batch)
            assert len(batch) <= max_callbacks
            assert size_bytes <= max_bytes or len(batch) == 1
            if following is not None:  # no batch is smaller than it has to be
                assert len(batch) == max_callbacks or size_bytes + following[0].size_bytes > max_bytes

    asyncio.run(scenario())


def test_a_commit_that_was_cancelled_by_another_is_repeated_and_loses_nobody() -> None:
    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf)
        running = asyncio.create_task(commit.run())
        write, calls = shelf.write, [0]

        async def write_at_second_try(batch: Sequence[BatchEntry]) -> None:
            calls[0] += 1
            if calls[0] == 1:
                raise asyncio.CancelledError
            await write(batch)

        shelf.write = write_at_second_try  # type: ignore[method-assign]
        await asyncio.gather(*(commit.accept(callback(body), 1) for body in "ab"))
        assert sorted(body for batch in shelf.batches for body in batch) == ["a", "b"]
        commit.close()
        await running

    asyncio.run(scenario())


def test_whatever_ends_it_nobody_waits_for_an_answer_that_does_not_come() -> None:
    class Broken(BaseException):
        """Not even an Exception."""

    async def scenario() -> None:
        shelf = FailureList()
        commit = GroupCommit(shelf, max_callbacks=1)
        shelf.may_write.clear()
        work = Background()

        async def run() -> None:
            try:
                await commit.run()
            except Broken as exc:
                raise RuntimeError from exc

        running = work.start_task("group_commit", run, on_failure=commit.fail_pending)
        keeping = [asyncio.create_task(commit.accept(callback(body), 1)) for body in "abc"]
        await shelf.writing.wait()
        shelf.fails = Broken()  # type: ignore[assignment]
        shelf.may_write.set()
        told = await asyncio.gather(*keeping, return_exceptions=True)
        assert [type(one) for one in told] == [StoreUnavailable] * 3
        shelf.fails = None
        await commit.accept(callback("d"), 1)
        assert shelf.batches == [["d"]]
        commit.close()
        await running

    asyncio.run(scenario())
