"""Handlers that store events in this process, and erase a person's: rightly, or not."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from callbacks import Event, ReplyEvent, ReportEvent, handler
from callbacks.phone_numbers import comparable

stored: dict[str, str] = {}
is_open: list[bool] = []


def _number(event: Event) -> str:
    return comparable((event.sender if event.kind == "reply" else event.recipient) or "")


@contextmanager
def lifespan() -> Iterator[None]:
    is_open.append(True)
    yield
    is_open.clear()


@asynccontextmanager
async def async_lifespan() -> AsyncIterator[None]:
    is_open.append(True)
    yield
    is_open.clear()


def erase(number: str) -> int:
    assert is_open
    chosen = [event_id for event_id, known in stored.items() if known == number]
    for event_id in chosen:
        del stored[event_id]
    return len(chosen)


async def erase_later(number: str) -> int:
    return erase(number)


def erase_all(number: str) -> int:
    number = str(len(stored))
    stored.clear()
    return int(number)


def count_nothing(number: str) -> int:
    erase(number)
    return 0


def fail(number: str) -> int:
    raise LookupError(f"{number} is not there")


@handler(ReportEvent, ReplyEvent, lifespan=lifespan, forget=erase)
def remembers(event: Event) -> None:
    stored[event.id] = _number(event)


@handler(ReportEvent, lifespan=async_lifespan, forget=erase_later)
async def remembers_later(event: Event) -> None:
    stored[event.id] = _number(event)


@handler(ReportEvent, lifespan=lifespan, forget=erase_all)
def erases_all(event: Event) -> None:
    stored[event.id] = _number(event)


@handler(ReportEvent, lifespan=lifespan, forget=count_nothing)
def counts_nothing(event: Event) -> None:
    stored[event.id] = _number(event)


@handler(ReportEvent, forget=fail)
def fails(event: Event) -> None:
    stored[event.id] = _number(event)
