"""Long work in steps, so that whoever has others to serve can do so between them."""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

# Work that pauses at each `yield`; what it returns is its result.
Stepwise: TypeAlias = Generator[None, None, T]


def run_to_end(steps: Stepwise[T]) -> T:
    """Return the result of `steps`, all done at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
