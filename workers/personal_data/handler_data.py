"""What a handler of your own stores: erased by the function that it declares, `@handler(…, forget=function)`.

It is called as its events are: with its settings read and its lifespan open, here in the command's process. What it
raises may quote a number, so only the error's type is said, or the reason of a Retry that mentions none.
"""

from collections.abc import Iterator
from typing import Any

from callbacks import Retry
from shared.number_search import NumberSearch
from workers import registry
from workers.declaration import Forget, Handler, HandlerError
from workers.deliver.call.forget_function import opened_forget
from workers.deliver.call.lifespan import LifespanFailed
from workers.personal_data.report import FoundItem, StoreResult


class HandlerData:
    """What the handler stores; it declares `forget`."""

    def __init__(self, entry: str, handler: Handler, forget: Forget, search: NumberSearch) -> None:
        self.name = f"handler:{handler.name}"
        self._entry = entry
        self._handler = handler
        self._forget = forget
        self._search = search

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Call the function with each number. It cannot count without erasing."""
        if dry_run:
            return StoreResult(store=self.name, why="its function erases, and is not called by --dry-run")
        erased, problems = 0, list[str]()
        try:
            registry.read_settings(self._handler, entry=self._entry)
            with opened_forget(self._handler, self._forget) as forget:
                for number in sorted(self._search.numbers):
                    try:
                        erased += _checked(forget(number))
                    except Exception as exc:  # noqa: BLE001 # an author's code, which may raise anything
                        problems.append(self._describe(exc))
        except (HandlerError, LifespanFailed) as exc:
            return StoreResult(store=self.name, found=erased, erased=erased, why=str(exc), failed=True)
        except Exception as exc:  # noqa: BLE001 # an author's code, which may raise anything
            return StoreResult(store=self.name, found=erased, erased=erased, why=self._describe(exc), failed=True)
        # For each number at least one item is left.
        left = len(problems)
        why = "; ".join(dict.fromkeys(problems))
        return StoreResult(
            store=self.name, found=erased + left, erased=erased, left=left, why=why, failed=bool(problems)
        )

    def export(self) -> Iterator[FoundItem]:
        """Yield nothing: only the handler can read what it stores."""
        yield from ()

    def _describe(self, exc: Exception) -> str:
        if isinstance(exc, Retry) and exc.reason and not self._search.find_in(exc.reason):
            return f"not erased: {exc.reason}; run this again"
        return f"its forget function raised {type(exc).__name__}"


def _checked(result: Any) -> int:
    if not isinstance(result, int):
        raise TypeError("the function must return how many items it erased")
    return result
