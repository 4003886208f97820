"""A wrong `lifespan` is refused where the handler is declared, with a message."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from callbacks import Pause, ReportEvent, handler
from workers.declaration import ATTRIBUTE, HandlerError


@contextmanager
def pool() -> Iterator[None]:
    yield


@asynccontextmanager
async def client() -> AsyncIterator[None]:
    yield


@contextmanager
def pool_of(size: int) -> Iterator[None]:
    yield


def forgotten() -> Iterator[None]:
    yield


def declare(lifespan: Any, *, is_async: bool = False) -> Any:
    def plain(event: ReportEvent) -> None: ...

    async def concurrent(event: ReportEvent) -> None: ...

    function: Callable[..., Any] = concurrent if is_async else plain
    return getattr(handler(ReportEvent, lifespan=lifespan)(function), ATTRIBUTE).lifespan


@pytest.mark.parametrize(("lifespan", "is_async"), [(pool, False), (pool, True), (client, True), (None, False)])
def test_a_lifespan_is_declared_unchanged(lifespan: Any, is_async: bool) -> None:
    assert declare(lifespan, is_async=is_async) is lifespan


@pytest.mark.parametrize(
    ("lifespan", "message"),
    [
        (client, "client is async, which only an `async def` handler can have"),
        (forgotten, "forgotten must be made by contextlib.contextmanager or contextlib.asynccontextmanager: put one"),
        (pool_of, "pool_of must take no argument"),
        (
            pool(),
            "lifespan must be a function that opens it (a context manager), not <contextlib._GeneratorContextManager",
        ),
        ("pool", "lifespan must be a function that opens it (a context manager), not 'pool'"),
    ],
    ids=["async at a plain def", "not decorated", "with an argument", "called already", "a name"],
)
def test_a_lifespan_that_cannot_be_one_is_refused(lifespan: Any, message: str) -> None:
    with pytest.raises(HandlerError, match="plain: lifespan") as caught:
        declare(lifespan)

    assert message in str(caught.value)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", None, True])
def test_a_pause_lasts_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValueError, match="after_seconds must be a number of seconds from 0"):
        Pause(seconds)
