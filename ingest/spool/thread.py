"""The thread in which the spool is read and written: a slow disk must not block the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from ingest import log
from ingest.spool.file import DiskUnavailable
from shared.errors import StoreUnavailable

# An fsync takes milliseconds, on a busy disk up to a second. Senders wait for it, so the limit is as that of Redis.
TIMEOUT_SECONDS: Final = 5.0

_HANGS: Final = "the disk does not respond"

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
        """Return what `function` returns, or raise what it raises.

        Raise DiskUnavailable if it takes longer than TIMEOUT_SECONDS. The call then ends later, and until it has ended
        every further call raises DiskUnavailable.
        """
        if self._late is not None and not self._late.done():
            raise DiskUnavailable(_HANGS)
        call = asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))
        try:
            done, _ = await asyncio.wait([call], timeout=TIMEOUT_SECONDS)
        finally:
            if not call.done():
                call.add_done_callback(_log_late_error)
        if not done:
            self._late = call
            raise DiskUnavailable(_HANGS)
        return call.result()

    def close(self) -> None:
        """Accept no further calls. One that is under way is completed."""
        self._executor.shutdown(wait=False)


def _log_late_error(call: asyncio.Future[Any]) -> None:
    """Log what a call raised that nobody awaits any more. A failing disk is reported by the next call."""
    exc = None if call.cancelled() else call.exception()
    if exc is not None and not isinstance(exc, StoreUnavailable):
        log.unexpected_error("spool", exc)
