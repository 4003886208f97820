"""A task is cancelled even if the library in which it waits swallows a cancellation."""

import asyncio

import pytest

from ingest import shutdown


def test_a_task_that_loses_its_first_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_CANCEL_INTERVAL_SECONDS", 0.01)
    lost: list[bool] = []

    async def deaf_once() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            lost.append(True)
        await asyncio.sleep(3600)

    async def scenario() -> None:
        task = asyncio.create_task(deaf_once())
        await asyncio.sleep(0)
        await shutdown.cancel(task)
        assert task.cancelled()
        await shutdown.cancel(task)  # the second call does nothing

    asyncio.run(scenario())
    assert lost == [True]
