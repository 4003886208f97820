"""The thread in which the spool is worked on, as a disk that is slow or hangs must not hold up the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from ingest import log
from ingest.spool.file import DiskUnavailable
from shared.errors import StoreUnavailable

# An fsync takes milliseconds, on a busy disk up to a second. Senders wait behind this, so it is no longer than
# what they wait for Redis.
TIMEOUT_SECONDS: Final = 5.0

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class SpoolThread:
    """Calls functions one after the other, in one thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._late: asyncio.Future[Any] | None = None

    async def run(
        self, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        """Give what `function` gives, or raises. Raises Failing if that takes longer than TIMEOUT_SECONDS.

        It is then done all the same, later. Until it is, nothing else is begun.
        """
        if self._late is not None and not self._late.done():
            raise DiskUnavailable("the disk hangs")
        doing = asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))
        try:
            done, _ = await asyncio.wait([doing], timeout=TIMEOUT_SECONDS)
        finally:
            if not doing.done():
                doing.add_done_callback(_log_unread)
        if not done:
            self._late = doing
            raise DiskUnavailable("the disk hangs")
        return doing.result()

    def close(self) -> None:
        """Take nothing more. What is under way is done."""
        self._executor.shutdown(wait=False)


def _log_unread(doing: asyncio.Future[Any]) -> None:
    """Log what a call raised for which nobody waits any more. That the disk fails is said where it matters."""
    exc = None if doing.cancelled() else doing.exception()
    if exc is not None and not isinstance(exc, StoreUnavailable):
        log.unexpected_error("spool", exc)
