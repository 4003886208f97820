"""Keeps log lines off the terminal of a command that has no log, and says the same in its own words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_log() -> Iterator[None]:
    """Keep warnings from being printed bare, as Python does while no log is configured."""
    logger, handler = logging.getLogger("callbacks"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
