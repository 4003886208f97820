"""Handlers whose target is away as long as a file is there, and some that open something: all write down what they do.

The file is CALLBACKS_WITNESS_FILE with ".away" behind it; in it stands for how many seconds they ask. They write to
CALLBACKS_WITNESS_FILE a line for each call: what, the process, the event's message id.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from callbacks import Pause, ReportEvent, handler
from tests.integration.witnesses import VARIABLE, write_down, written_down


def away() -> Path:
    return Path(f"{os.environ[VARIABLE]}.away")


def told(what: str) -> list[list[str]]:
    """Give (process, message) of each line about `what`."""
    return [rest for word, *rest in written_down(Path(os.environ[VARIABLE])) if word == what]


def _tell(what: str, message_id: str) -> None:
    write_down(Path(os.environ[VARIABLE]), f"{what} {os.getpid()} {message_id}")


@handler(ReportEvent, attempts=3, timeout_seconds=5)
def distant(event: ReportEvent) -> None:
    """Ask for a pause while the target is away; "sleeps" is a call that takes its time, "kills" ends the process."""
    _tell("called", event.message_id)
    if event.client_message_id == "kills":
        os._exit(9)
    if event.client_message_id == "sleeps":
        time.sleep(1.5)
    with suppress(FileNotFoundError):
        raise Pause(float(away().read_text()))


@contextmanager
def plain() -> Iterator[None]:
    _tell("opened", "-")
    yield
    _tell("closed", "-")


@handler(ReportEvent, lifespan=plain)
def opening(event: ReportEvent) -> None:
    _tell("called", event.message_id)
    time.sleep(1.0)


_loops: list[asyncio.AbstractEventLoop] = []


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    _loops.append(asyncio.get_running_loop())
    _tell("opened", "-")
    yield
    _tell("closed" if [asyncio.get_running_loop()] == _loops else "closed-elsewhere", "-")


@handler(ReportEvent, lifespan=connected, concurrency=4)
async def connecting(event: ReportEvent) -> None:
    _tell("called" if [asyncio.get_running_loop()] == _loops else "called-elsewhere", event.message_id)
    await asyncio.sleep(1.0)


@contextmanager
def broken() -> Iterator[None]:
    _tell("tried", "-")
    if away().exists():
        raise ConnectionRefusedError("nobody at 35699000001")
    yield


@handler(ReportEvent, lifespan=broken, attempts=1)
def unready(event: ReportEvent) -> None:
    _tell("called", event.message_id)
