"""Read the same thing from all cells at once: a cell that does not answer or is damaged delays and hides no other.

Each cell has a thread of its own while it is read. A reading that is late goes on there, and the next call of `read`
waits for that one, so a cell that hangs never has two.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeAlias, TypeVar

import redis
from msgspec import Struct

from shared import connections
from shared.cells import Cell
from shared.errors import CallbacksError
from shared.rate_limited_log import RateLimitedLog
from shared.structured_log import get_logger
from shared.tracebacks import type_name

T = TypeVar("T")
# Called once with the client of a cell; it returns the function that is called for each reading.
MakeRead: TypeAlias = Callable[[redis.Redis], Callable[[], T]]

# More than the time-out of a command, so that one that hangs is said with the words of its error.
_GRACE_SECONDS: Final = 1.0
_LOG_SECONDS: Final = 300.0

log = get_logger("callbacks.cells")


class CellReading(Struct, Generic[T], frozen=True):
    """What was read of a cell. `value` is None if it could not be read, and `problem` says why in one sentence."""

    cell: str
    redis_url: str
    """Without user, password and options."""
    value: T | None
    problem: str = ""


class CellsReader(Generic[T]):
    """One connection to each cell. `read` may be called in any thread.

    A command to a cell may take `timeout_seconds`, and a whole reading a second more, or any time if `is_unlimited`.
    """

    def __init__(
        self, cells: Sequence[Cell], make_read: MakeRead[T], *, timeout_seconds: float, is_unlimited: bool = False
    ) -> None:
        self._deadline_seconds = None if is_unlimited else timeout_seconds + _GRACE_SECONDS
        self._clients = [connections.connect(cell.redis_url, timeout_seconds=timeout_seconds) for cell in cells]
        self._readers = [
            _CellReader(cell, make_read(client)) for cell, client in zip(cells, self._clients, strict=True)
        ]

    def read(self) -> tuple[CellReading[T], ...]:
        """Return a reading of each cell, in their order, at the latest at the deadline."""
        readings = [reader.start() for reader in self._readers]
        concurrent.futures.wait(readings, timeout=self._deadline_seconds)
        return tuple(
            reading.result() if reading.done() else self._late(reader.cell)
            for reader, reading in zip(self._readers, readings, strict=True)
        )

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _late(self, cell: Cell) -> CellReading[T]:
        problem = f"{cell.redacted_url} cannot be used: no answer in {self._deadline_seconds:g} s"
        return CellReading(cell.name, cell.redacted_url, None, problem)


class _CellReader(Generic[T]):
    """Reads one cell, in at most one thread."""

    def __init__(self, cell: Cell, read: Callable[[], T]) -> None:
        self.cell = cell
        self._read = read
        self._lock = threading.Lock()
        self._reading: Future[CellReading[T]] | None = None
        self._log = RateLimitedLog(log, interval_seconds=_LOG_SECONDS)

    def start(self) -> Future[CellReading[T]]:
        """Return the reading that is under way, or a new one."""
        with self._lock:
            if self._reading is None or self._reading.done():
                reading: Future[CellReading[T]] = Future()
                # A daemon: the process does not wait for a cell that hangs when it ends.
                threading.Thread(target=self._run, args=(reading,), name=f"cell_{self.cell.name}", daemon=True).start()
                self._reading = reading
            return self._reading

    def _run(self, reading: Future[CellReading[T]]) -> None:
        value, problem = None, ""
        url = self.cell.redacted_url
        try:
            value = self._read()
        except redis.RedisError as exc:
            problem = f"{url} cannot be used: {connections.describe_error(exc, variable='CALLBACKS_CELLS')}"
        except CallbacksError as exc:
            problem = str(exc)
        except Exception as exc:  # noqa: BLE001 # a damaged value may raise anything, and is of this cell only
            self._log.exception("cell_unreadable", exc, cell=self.cell.name)
            problem = f"{url} cannot be read ({type_name(exc)}): a value in it is damaged"
        reading.set_result(CellReading(self.cell.name, url, value, problem))
