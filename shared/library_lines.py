"""The log lines of libraries: only warnings and errors, each kind once per interval, and without what they may quote.

A sender can cause some of them with each request, and a library says what it likes: an exception's message may quote a
body, a number or a token (I9).
"""

import logging
from typing import Final

from shared.rate_limited_log import LineCounter

INTERVAL_SECONDS: Final = 10.0
# What this service uses. Lines of other names are the handlers' own, and those of the libraries that they use.
LIBRARIES: Final = frozenset(
    (
        "alembic",
        "apprise",
        "asyncio",
        "concurrent",
        "httpcore",
        "httpx",
        "hpack",
        "opentelemetry",
        "psycopg",
        "py",  # py.warnings: what `warnings.warn` says
        "redis",
        "rq",
        "sqlalchemy",
        "uvicorn",
    )
)
# Two lines of a library are of one kind if they begin the same: what it fills in comes later.
_KIND_CHARACTERS: Final = 32


def is_library(logger_name: str) -> bool:
    """Return whether a logger is a library's that this service uses."""
    return logger_name.partition(".")[0] in LIBRARIES


def set_levels() -> None:
    """Let libraries log warnings and errors only."""
    for name in LIBRARIES:
        logging.getLogger(name if name != "py" else "py.warnings").setLevel(logging.WARNING)


class LibraryLimit(logging.Filter):
    """Passes one warning or error of each kind of a library per interval, with `count` on it; and all other lines.

    Information passes: no sender can cause it, only the start and the end of a server do.
    """

    def __init__(self, counter: LineCounter | None = None) -> None:
        super().__init__()
        self._counter = counter or LineCounter(interval_seconds=INTERVAL_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        if record.levelno < logging.WARNING or not is_library(record.name):
            return True
        count = self._counter.count((record.name, str(record.msg)[:_KIND_CHARACTERS]))
        record.__dict__["count"] = count
        return count > 0
