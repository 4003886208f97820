"""Read the same thing from all cells at once: a cell that does not answer delays and hides no other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeAlias, TypeVar

import redis
from msgspec import Struct

from shared import connections
from shared.cells import Cell
from shared.errors import CallbacksError

T = TypeVar("T")
# Called once with the client of a cell; it returns the function that is called for each reading.
MakeRead: TypeAlias = Callable[[redis.Redis], Callable[[], T]]


class CellReading(Struct, Generic[T], frozen=True):
    """What was read of a cell. `value` is None if it could not be read, and `problem` says why in one sentence."""

    cell: str
    redis_url: str
    """Without user, password and options."""
    value: T | None
    problem: str = ""


class CellsReader(Generic[T]):
    """One connection to each cell. `read` may be called in any thread."""

    def __init__(self, cells: Sequence[Cell], make_read: MakeRead[T], *, timeout_seconds: float) -> None:
        self._clients = [connections.connect(cell.redis_url, timeout_seconds=timeout_seconds) for cell in cells]
        self._readers = [(cell, make_read(client)) for cell, client in zip(cells, self._clients, strict=True)]

    def read(self) -> tuple[CellReading[T], ...]:
        """Return a reading of each cell, in their order. Takes no longer than the slowest of them."""
        with ThreadPoolExecutor(len(self._readers), thread_name_prefix="cell") as pool:
            return tuple(pool.map(lambda one: _read(*one), self._readers))

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()


def _read(cell: Cell, reader: Callable[[], T]) -> CellReading[T]:
    try:
        return CellReading(cell.name, cell.redacted_url, reader())
    except redis.RedisError as exc:
        why = connections.describe_error(exc, variable="CALLBACKS_CELLS")
        problem = f"{cell.redacted_url} cannot be used: {why}"
    except CallbacksError as exc:
        problem = str(exc)
    return CellReading(cell.name, cell.redacted_url, None, problem)
