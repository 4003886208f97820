"""Draining: in order; only what Redis has leaves the spool; one row does not hold back the others."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.group_commit import BatchEntry, Destination
from ingest.spool.folder import DrainBatch
from shared import sealed_data
from shared.seal_keys import SealKey
from tests.unit.spools import Redis, callback, running, spool, until

pytestmark = pytest.mark.usefixtures("hurried")


def test_a_backlog_at_the_end_is_drained_by_the_next_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, spool(tmp_path)) as store:
            await store.write([callback("a")])
        redis.blocked_reason = None
        async with running(redis, spool(tmp_path)) as store:
            await until(lambda: redis.accepted == ["a"] and store.report.state == "drained")

    asyncio.run(scenario())
    assert "action=spool_not_drained callbacks=1" in caplog.text
    assert "left by a process that ended" in caplog.text


def test_nothing_leaves_the_spool_before_redis_has_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        folder = spool(tmp_path)
        held: list[int] = []

        async def write(batch: Sequence[BatchEntry]) -> Destination:
            held.append(folder.backlog.callbacks)
            await asyncio.sleep(0.01)
            held.append(folder.backlog.callbacks)
            return await Redis.write(redis, batch)

        async with running(redis, folder) as store:
            await store.write([callback("a"), callback("b")])
            redis.write = write  # type: ignore[method-assign]
            redis.blocked_reason = None
            await until(lambda: store.report.state == "drained")
        assert held == [2, 2]

    asyncio.run(scenario())


def test_a_row_that_redis_refuses_does_not_hold_back_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, spool(tmp_path)) as store:
            for body in ("a", "poison", "c"):
                await store.write([callback(body)])
            redis.poison, redis.blocked_reason = "poison", None
            await until(lambda: set(redis.accepted) == {"a", "c"})
            await store.write([callback("d")])
            await until(lambda: store.report.checks()["spool"]["waiting_callbacks"] == 1)
            redis.poison = ""
            await until(lambda: store.report.state == "drained")
            assert sorted(redis.accepted) == ["a", "c", "d", "poison"]

    asyncio.run(scenario())


def test_a_row_on_which_our_own_code_fails_is_moved_to_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, spool(tmp_path)) as store:
            for body in ("a", "text of a person", "c"):
                await store.write([callback(body)])
            redis.fails_on, redis.blocked_reason = "text of a person", None
            await until(lambda: store.report.state == "drained")
            assert redis.accepted == ["a", "c"]

    asyncio.run(scenario())
    [aside] = (tmp_path / "spool").glob("*.failed")
    assert b"text of a person" in aside.read_bytes()
    assert "text of a person" not in caplog.text


def test_an_error_with_every_row_moves_none_to_a_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, spool(tmp_path)) as store:
            for _ in range(5):
                await store.write([callback("same")])
            redis.fails_on, redis.blocked_reason = "same", None
            await until(lambda: redis.asked > 8)
            assert store.report.checks()["spool"]["waiting_callbacks"] == 5
            redis.fails_on = ""
            await until(lambda: redis.accepted == ["same"] * 5)

    asyncio.run(scenario())
    assert list((tmp_path / "spool").glob("*.failed")) == []


def test_an_unexpected_error_is_logged_and_draining_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    private = "text of a person"

    async def scenario() -> None:
        redis = Redis()
        folder = spool(tmp_path)
        redis.blocked_reason = "away"
        gives = folder.next_batch

        def broken() -> DrainBatch | None:
            monkeypatch.setattr(folder, "next_batch", gives)
            raise KeyError(private)

        async with running(redis, folder) as store:
            await store.write([callback("a")])
            monkeypatch.setattr(folder, "next_batch", broken)
            redis.blocked_reason = None
            await until(lambda: redis.accepted == ["a"])

    asyncio.run(scenario())
    assert "action=unexpected_error where=drain count=1 error=KeyError" in caplog.text
    assert private not in caplog.text


def test_nothing_is_read_while_only_what_cannot_be_read_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_data, "_ciphers", None)

    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        folder = spool(tmp_path)
        async with running(redis, folder) as store:
            sealed_data.use([SealKey(b"old1", b"o" * 32)])
            await store.write([callback("a")])
            sealed_data.use([SealKey(b"new1", b"n" * 32)])
            await store.write([callback("b")])
            redis.blocked_reason = None
            await until(lambda: redis.accepted == ["b"] and folder.backlog.callbacks == 1)
            assert store.report.checks()["spool"]["waiting_callbacks"] == 1
            reads: list[bool] = []
            monkeypatch.setattr(folder, "next_batch", lambda: reads.append(True))
            await asyncio.sleep(0.05)
            assert not reads

    asyncio.run(scenario())
