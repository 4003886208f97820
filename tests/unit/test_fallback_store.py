"""Redis first, then the spool, and what operators see, with a fake Redis that tests control."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.group_commit import BatchEntry
from ingest.spool import thread
from ingest.spool.file import DiskUnavailable
from ingest.spool.folder import SpoolFull
from shared.batches import Accepted
from shared.errors import StoreUnavailable
from tests.unit.spools import Redis, callback, lines, running, spool, until

pytestmark = pytest.mark.usefixtures("hurried")


def test_batches_that_redis_takes_are_not_spooled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        redis = Redis()
        async with running(redis, spool(tmp_path)) as store:
            await store.write([callback("a")])
            assert redis.batches == [["a"]]
            assert store.report.destination() == "redis"
            assert store.report.checks()["spool"]["detail"] == "drained"

    asyncio.run(scenario())
    assert lines(caplog) == []


def test_while_the_gate_is_closed_redis_is_not_used_and_afterwards_it_has_everything_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "redis: ConnectionError"
        async with running(redis, spool(tmp_path)) as store:
            for number in range(100):
                await store.write([callback(str(number))])
            assert redis.asked == 0
            check = store.report.checks()["spool"]
            assert (check["ok"], check["detail"], check["waiting_callbacks"]) == (True, "filling", 100)
            assert 0 < check["bytes"] < check["limit_bytes"]
            assert check["oldest_seconds"] > 0
            assert store.report.destination() == "spool"
            redis.blocked_reason = None
            await until(lambda: store.report.state == "drained")
            assert redis.batches == [[str(number) for number in range(100)]]  # as one commit
            assert store.report.checks()["spool"]["waiting_callbacks"] == 0

    asyncio.run(scenario())
    assert lines(caplog) == [
        'action=spool state=filling why="redis: ConnectionError"',
        "action=spool state=drained callbacks=100",
    ]


def test_batches_that_redis_refuses_with_an_open_gate_are_spooled_and_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.refuses = "ResponseError MISCONF"
        async with running(redis, spool(tmp_path)) as store:
            await store.write([callback("a")])
            check = store.report.checks()["redis_writes"]
            assert not check["ok"]
            assert "MISCONF" in check["detail"]
            assert store.report.destination() == "spool"
            redis.refuses = ""
            await until(lambda: store.report.state == "drained")
            assert set(store.report.checks()) == {"spool"}
            assert redis.accepted == ["a"]

    asyncio.run(scenario())


def test_batches_that_no_store_takes_are_refused_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, spool(tmp_path, limit_bytes=50_000)) as store:
            await store.write([callback("small")])
            for _ in range(3):
                with pytest.raises(SpoolFull):
                    await store.write([callback("x" * 60_000), callback("y")])
            check = store.report.checks()["spool"]
            assert not check["ok"]
            assert check["detail"].startswith("full: ")
            assert check["remedy"]
            assert check["refused"]["callbacks"] == 6
            assert check["refused"]["since"].endswith("Z")
            assert 0 < check["refused"]["gateway_gives_up_in_seconds"] <= 600
            assert store.report.destination() == "none"
            await store.write([callback("small too")])  # it fits, but the state does not change with every batch
            assert store.report.state == "full"
            redis.blocked_reason = None
            await until(lambda: store.report.state == "drained")
            assert store.report.checks()["spool"]["ok"]
            assert store.report.checks()["spool"]["refused"]["callbacks"] == 6
            assert redis.accepted == ["small", "small too"]

    asyncio.run(scenario())
    assert [line.split()[1] for line in lines(caplog)] == ["state=filling", "state=full"]
    assert len(lines(caplog, "spool_refused")) == 1
    assert "left_seconds=600" in caplog.text


def test_without_a_spool_refusals_are_counted_too(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, None) as store:
            with pytest.raises(StoreUnavailable, match="away"):
                await store.write([callback("a")])
            check = store.report.checks()["spool"]
            assert check["ok"]  # a spool that is not configured does not fail
            assert check["detail"].startswith("none")
            assert check["refused"]["callbacks"] == 1
            assert store.report.destination() == "none"

    asyncio.run(scenario())
    assert lines(caplog) == []
    assert len(lines(caplog, "spool_refused")) == 1


def test_a_spool_that_cannot_be_opened_matters_only_when_it_is_needed_and_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        redis = Redis()
        (tmp_path / "spool").write_text("in the way")
        async with running(redis, spool(tmp_path)) as store:
            await store.write([callback("a")])
            check = store.report.checks()["spool"]
            assert check["ok"]
            assert check["detail"].startswith("failing: ")
            assert check["remedy"]
            redis.blocked_reason = "away"
            assert not store.report.checks()["spool"]["ok"]
            with pytest.raises(DiskUnavailable):
                await store.write([callback("b")])
            (tmp_path / "spool").unlink()
            await store.write([callback("c")])
            redis.blocked_reason = None
            await until(lambda: store.report.state == "drained")
            assert redis.accepted == ["a", "c"]

    asyncio.run(scenario())
    states = [line.split()[1] for line in lines(caplog)]
    assert (states[0], states[-1]) == ("state=failing", "state=drained")
    assert len(states) <= 3


def test_a_spool_that_failed_while_redis_works_is_checked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        redis = Redis()
        (tmp_path / "spool").write_text("in the way")
        async with running(redis, spool(tmp_path)) as store:
            assert store.report.state == "failing"
            (tmp_path / "spool").unlink()
            await until(lambda: store.report.state == "drained")

    asyncio.run(scenario())


def test_a_disk_that_hangs_delays_no_sender_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_continue = threading.Event()

    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        folder = spool(tmp_path)
        appends = folder.append

        def hanging(batch: Sequence[BatchEntry]) -> None:
            may_continue.wait(30)
            appends(batch)

        async with running(redis, folder) as store:
            monkeypatch.setattr(folder, "append", hanging)
            with monkeypatch.context() as impatient:
                impatient.setattr(thread, "TIMEOUT_SECONDS", 0.05)
                for body in "ab":
                    with pytest.raises(DiskUnavailable, match="does not respond"):
                        await store.write([callback(body)])
            may_continue.set()
            await until(lambda: store._thread._late is not None and store._thread._late.done())
            assert folder.backlog.callbacks == 1  # the second was not even started
            await store.write([callback("c")])
            redis.blocked_reason = None
            await until(lambda: redis.accepted == ["a", "c"])

    asyncio.run(scenario())


def test_a_batch_that_cannot_be_packed_is_left_to_the_group_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        redis = Redis()
        redis.blocked_reason = "away"
        async with running(redis, spool(tmp_path)) as store:
            with pytest.raises(UnicodeEncodeError):
                await store.write([Accepted("status", "gateway", 1, 1, "\ud800")])
            await store.write([callback("b")])
            assert store.report.checks()["spool"]["waiting_callbacks"] == 1

    asyncio.run(scenario())
