"""A handler's function `forget=`, called as its events are, with its lifespan open, where no worker runs."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from workers.declaration import Forget, Handler
from workers.deliver.call.lifespan import Lifespan


@contextmanager
def opened_forget(handler: Handler, forget: Forget) -> Iterator[Callable[[str], Any]]:
    """Yield a function that calls `forget` with a number, and returns what that returns. Raise LifespanFailed."""
    with asyncio.Runner() as runner:
        lifespan = Lifespan(handler, runner)
        lifespan.open()

        def call(number: str) -> Any:
            result: Any = forget(number)
            return runner.run(_wait_for(result)) if inspect.isawaitable(result) else result

        try:
            yield call
        finally:
            lifespan.close()


async def _wait_for(result: Any) -> Any:
    return await result
