"""Long work that shares the event loop: a generator that yields wherever other tasks may run."""

import asyncio
from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

# Work that pauses at each `yield`. What the generator returns is the result.
Stepwise: TypeAlias = Generator[None, None, T]


def run_to_end(steps: Stepwise[T]) -> T:
    """Run all of `steps` without a pause, and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def run_between_others(steps: Stepwise[T]) -> T:
    """Run `steps`, let other tasks run between any two of them, and return their result.

    A thread would not help: decoding holds Python's lock, so the event loop would wait for it anyway.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
