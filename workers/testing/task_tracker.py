"""Finds tasks that a handler leaves running on its event loop when its worker has stopped.

The handler's tasks are those started by its calls, by its lifespan, or by one of its tasks. Other tasks are the
worker's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

from workers.declaration import Handler


def track(handler: Handler) -> tuple[Handler, list[str]]:
    """Return a tracked copy of `handler`, and a list that names its running tasks after its worker was closed."""
    left: list[str] = []
    if not handler.is_async:
        return handler, left
    own: set[asyncio.Task[Any]] = set()

    def create_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        if asyncio.current_task(loop) in own:
            own.add(task)
        return task

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        asyncio.get_running_loop().set_task_factory(create_task)
        _add_current_task(own)
        async with _as_async(nullcontext() if handler.lifespan is None else handler.lifespan()):
            yield
        # After the handler's own lifespan, which may end tasks that its calls started.
        running = {task for task in own if not task.done()} - {asyncio.current_task()}
        left.extend(f"task {task.get_name()}: {task.get_coro()!r}" for task in running)

    async def call(argument: Any) -> Any:
        _add_current_task(own)
        return await handler.function(argument)

    return replace(handler, function=call, lifespan=lifespan), left


def _add_current_task(own: set[asyncio.Task[Any]]) -> None:
    task = asyncio.current_task()
    if task is not None:
        own.add(task)


@asynccontextmanager
async def _as_async(
    opened: AbstractContextManager[object] | AbstractAsyncContextManager[object],
) -> AsyncIterator[None]:
    if isinstance(opened, AbstractAsyncContextManager):
        async with opened:
            yield
    else:
        with opened:
            yield
