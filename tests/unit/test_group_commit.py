"""Group commit without Redis: what shares a batch, what each caller gets, and what happens at the end."""

import asyncio
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import group_commit
from ingest.group_commit import LOAD_CALLBACKS, BatchEntry, Commit, Destination, GroupCommit, PendingEntry, take_batch
from shared.background import Background
from shared.batches import Accepted
from shared.errors import StoreUnavailable


class MemoryStore:
    """A store in memory whose writes and failures the test controls."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.writing = asyncio.Event()
        self.fails: Exception | None = None
        self.poison = ""

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        self.writing.set()
        await self.may_write.wait()
        if self.fails is not None:
            raise self.fails
        bodies = [entry.body for entry in batch if isinstance(entry, Accepted)]
        if self.poison in bodies:
            raise KeyError(self.poison)
        self.batches.append(bodies)
        return "redis"

    async def close(self) -> None:
        """Close nothing."""


def callback(body: str) -> Accepted:
    return Accepted("status", "gateway", 0, 1, body)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_without_load_a_callback_is_committed_alone_at_once() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        commits = [await commit.accept(callback(body), 1) for body in "ab"]
        assert commits == [Commit("redis", 1)] * 2
        assert store.batches == [["a"], ["b"]]
        commit.close()
        await running

    asyncio.run(scenario())


@pytest.mark.parametrize(("callbacks", "batches"), [(LOAD_CALLBACKS, 2), (LOAD_CALLBACKS - 1, 3)])
def test_after_a_large_batch_what_arrives_in_the_cooldown_shares_the_next(
    callbacks: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        # As many callbacks as say that there is load, or one less, then one more and, some steps later, another.
        waiting = [commit.accept(callback(str(number)), 1) for number in range(callbacks)]
        running = asyncio.create_task(commit.run())
        await asyncio.gather(*waiting)
        late = [commit.accept(callback("late"), 1)]
        await settle()
        late.append(commit.accept(callback("later"), 1))
        await asyncio.gather(*late)
        assert len(store.batches) == batches
        commit.close()
        await running

    # A cooldown that no machine is too slow for.
    monkeypatch.setattr(group_commit, "COOLDOWN_SECONDS", 1.0)
    asyncio.run(scenario())


def test_callbacks_that_arrive_during_a_commit_share_the_next() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        store.may_write.clear()
        first = asyncio.ensure_future(commit.accept(callback("first"), 1))
        await store.writing.wait()
        others = [asyncio.ensure_future(commit.accept(callback(str(number)), 1)) for number in range(100)]
        await settle()
        assert not first.done()
        store.may_write.set()
        await asyncio.gather(first, *others)
        assert store.batches == [["first"], [str(number) for number in range(100)]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_no_caller_returns_before_the_store_has_written() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        store.may_write.clear()
        keeping = asyncio.ensure_future(commit.accept(callback("a"), 1))
        await store.writing.wait()
        await settle()
        assert not keeping.done()
        store.may_write.set()
        await keeping
        assert store.batches == [["a"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_a_refused_batch_is_reported_to_each_caller_and_the_next_is_committed() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        store.fails = StoreUnavailable("no room", retry_after_seconds=7)
        outcomes = await asyncio.gather(*(commit.accept(callback(body), 1) for body in "abc"), return_exceptions=True)
        assert [(type(exc), str(exc), getattr(exc, "retry_after_seconds", 0)) for exc in outcomes] == [
            (StoreUnavailable, "no room", 7)
        ] * 3
        assert len({id(exc) for exc in outcomes}) == 3
        store.fails = None
        await commit.accept(callback("d"), 1)
        assert store.batches == [["d"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_a_callback_that_breaks_the_store_does_not_affect_the_rest_of_its_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.poison = "text of a person"
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        outcomes = await asyncio.gather(
            *(commit.accept(callback(body), 1) for body in ("a", "text of a person", "c")), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [Commit, StoreUnavailable, Commit]
        assert store.batches == [["a"], ["c"]]
        commit.close()
        await running

    asyncio.run(scenario())
    assert "action=unexpected_error where=commit count=1 error=KeyError" in caplog.text
    assert "text of a person" not in caplog.text


def test_a_cancelled_caller_affects_no_other_and_its_callback_is_committed() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        store.may_write.clear()
        keeping = [asyncio.ensure_future(commit.accept(callback(body), 1)) for body in "abc"]
        await store.writing.wait()
        keeping[0].cancel()
        keeping[1].cancel()
        await settle()
        store.may_write.set()
        await keeping[2]
        assert store.batches == [["a", "b", "c"]]
        commit.close()
        await running

    asyncio.run(scenario())


def test_at_the_end_what_waits_is_committed_and_nothing_more_is_accepted() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store, max_callbacks=2)
        running = asyncio.create_task(commit.run())
        store.may_write.clear()
        keeping = [asyncio.ensure_future(commit.accept(callback(body), 1)) for body in "abcde"]
        await store.writing.wait()
        commit.close()
        with pytest.raises(StoreUnavailable):
            await commit.accept(callback("late"), 1)
        store.may_write.set()
        await running
        await asyncio.gather(*keeping)
        assert store.batches == [["a", "b"], ["c", "d"], ["e"]]

    asyncio.run(scenario())


@given(sizes=st.lists(st.integers(0, 50), min_size=1), max_callbacks=st.integers(1, 10), max_bytes=st.integers(1, 100))
def test_batches_keep_the_order_and_both_limits(sizes: list[int], max_callbacks: int, max_bytes: int) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        waiting = deque(
            PendingEntry(callback(str(number)), size, loop.create_future()) for number, size in enumerate(sizes)
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
            if following is not None:  # no batch is smaller than it must be
                assert len(batch) == max_callbacks or size_bytes + following[0].size_bytes > max_bytes

    asyncio.run(scenario())


def test_a_commit_whose_future_was_cancelled_is_repeated_one_by_one() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store)
        running = asyncio.create_task(commit.run())
        write, calls = store.write, [0]

        async def write_at_second_try(batch: Sequence[BatchEntry]) -> Destination:
            calls[0] += 1
            if calls[0] == 1:
                raise asyncio.CancelledError
            return await write(batch)

        store.write = write_at_second_try  # type: ignore[method-assign]
        await asyncio.gather(*(commit.accept(callback(body), 1) for body in "ab"))
        assert sorted(body for batch in store.batches for body in batch) == ["a", "b"]
        commit.close()
        await running

    asyncio.run(scenario())


def test_however_the_commit_ends_no_caller_waits_without_end() -> None:
    class Broken(BaseException):
        """Not even an Exception."""

    async def scenario() -> None:
        store = MemoryStore()
        commit = GroupCommit(store, max_callbacks=1)
        store.may_write.clear()
        work = Background()

        async def run() -> None:
            try:
                await commit.run()
            except Broken as exc:
                raise RuntimeError from exc

        running = work.start_task("group_commit", run, on_failure=commit.fail_pending)
        keeping = [asyncio.ensure_future(commit.accept(callback(body), 1)) for body in "abc"]
        await store.writing.wait()
        store.fails = Broken()  # type: ignore[assignment]
        store.may_write.set()
        outcomes = await asyncio.gather(*keeping, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
        store.fails = None
        await commit.accept(callback("d"), 1)
        assert store.batches == [["d"]]
        commit.close()
        await running

    asyncio.run(scenario())
