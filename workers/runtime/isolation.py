"""Doing the same for many items, so that one that fails does not delay the others."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from workers.runtime.redis_retry import UNAVAILABLE

T = TypeVar("T")

# If thousands fail alike, these few say why.
_MAX_RAISED: Final = 10


def run_for_each(
    items: Iterable[T], do: Callable[[T], object], *, after_each: Callable[[], object] | None = None
) -> None:
    """Call `do` for each of `items`, and raise what some of them raised after the last, as an ExceptionGroup.

    `after_each` is called after each item, also after one that failed. If Redis is unavailable, its error is raised at
    once: the next item would fail alike.
    """
    raised: list[Exception] = []
    for item in items:
        try:
            do(item)
        except UNAVAILABLE:
            raise
        except Exception as exc:  # noqa: BLE001 # the others have their turn before it is raised
            raised.append(exc)
        if after_each is not None:
            after_each()
    if raised:
        raise ExceptionGroup(f"{len(raised)} failed", raised[:_MAX_RAISED])
