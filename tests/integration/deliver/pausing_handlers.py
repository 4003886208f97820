"""Handlers whose target is unavailable while a file exists, and some with a lifespan: all record their calls.

The file is RECORDER_FILE with ".unavailable" appended; it holds the seconds to pause for. For each call they
write a line to RECORDER_FILE: what, the process, the event's message id.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from callbacks import Pause, ReportEvent, handler
from tests.integration.recorders import VARIABLE, append_lines, read_lines

DISTANT_SECONDS: Final = 30


def unavailable_file() -> Path:
    return Path(f"{os.environ[VARIABLE]}.unavailable")


def release_file() -> Path:
    """Return the file for which calls wait: it is there or not, as the test wants."""
    return Path(f"{os.environ[VARIABLE]}.release")


def recorded_lines(what: str) -> list[list[str]]:
    """Return (process, message) of each line about `what`."""
    return [rest for word, *rest in read_lines(Path(os.environ[VARIABLE])) if word == what]


def _record(what: str, message_id: str) -> None:
    append_lines(Path(os.environ[VARIABLE]), f"{what} {os.getpid()} {message_id}")


@handler(ReportEvent, attempts=3, timeout_seconds=DISTANT_SECONDS)
def distant(event: ReportEvent) -> None:
    """Ask for a pause while the target is unavailable; "waits" waits for the release, "kills" ends the process."""
    _record("called", event.message_id)
    if event.client_message_id == "kills":
        os._exit(9)
    while event.client_message_id == "waits" and not release_file().exists():
        time.sleep(0.02)
    with suppress(FileNotFoundError):
        raise Pause(float(unavailable_file().read_text()))


@contextmanager
def plain() -> Iterator[None]:
    _record("opened", "-")
    yield
    _record("closed", "-")


@handler(ReportEvent, lifespan=plain)
def opening(event: ReportEvent) -> None:
    _record("called", event.message_id)
    time.sleep(1.0)


_loops: list[asyncio.AbstractEventLoop] = []


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    _loops.append(asyncio.get_running_loop())
    _record("opened", "-")
    yield
    _record("closed" if [asyncio.get_running_loop()] == _loops else "closed-elsewhere", "-")


@handler(ReportEvent, lifespan=connected, concurrency=4)
async def connecting(event: ReportEvent) -> None:
    _record("called" if [asyncio.get_running_loop()] == _loops else "called-elsewhere", event.message_id)
    await asyncio.sleep(1.0)


@contextmanager
def broken() -> Iterator[None]:
    _record("tried", "-")
    if unavailable_file().exists():
        raise ConnectionRefusedError("nobody at 35699000001")
    yield


@handler(ReportEvent, lifespan=broken, attempts=1)
def unready(event: ReportEvent) -> None:
    _record("called", event.message_id)
