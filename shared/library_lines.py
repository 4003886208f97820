"""The log lines of libraries: only warnings and errors, and without what they may quote.

A library says what it likes: an exception's message may quote a body, a number or a token (I9).
"""

import logging
from typing import Final

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


def is_library(logger_name: str) -> bool:
    """Return whether a logger is a library's that this service uses."""
    return logger_name.partition(".")[0] in LIBRARIES


def set_levels() -> None:
    """Let libraries log warnings and errors only."""
    for name in LIBRARIES:
        logging.getLogger(name if name != "py" else "py.warnings").setLevel(logging.WARNING)
