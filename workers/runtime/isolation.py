"""Doing the same for many, so that one that fails keeps none of the others from their turn."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import redis

Item = TypeVar("Item")

# Redis does not answer: it would not for the next one either.
UNAVAILABLE: Final = (redis.ConnectionError, redis.TimeoutError)
# Of thousands that fail alike these few say why.
_MAX_RAISED: Final = 10


def run_for_each(items: Iterable[Item], do: Callable[[Item], object]) -> None:
    """Call `do` for each of `items`, and raise what some of them raised after the last, as an ExceptionGroup.

    While Redis is unavailable nothing more is tried, and its error is raised at once.
    """
    raised: list[Exception] = []
    for item in items:
        try:
            do(item)
        except UNAVAILABLE:
            raise
        except Exception as exc:  # noqa: BLE001 # the others get their turn before it is raised
            raised.append(exc)
    if raised:
        raise ExceptionGroup(f"{len(raised)} failed", raised[:_MAX_RAISED])
