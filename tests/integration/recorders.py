"""Handlers that write down, in the file RECORDER_FILE, each call they got: one line, so that no call is lost.

What else they do, the event says in its `client_message_id`: "fails" and "rejects" do what they say; "kills" kills the
process, the first time, "always-kills" each time; "sleeps:0.5" sleeps; "waits:PATH" waits until that file exists.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from callbacks import Reject, ReplyEvent, ReportEvent, handler

VARIABLE: Final = "RECORDER_FILE"


@handler(ReportEvent, ReplyEvent, attempts=3)
def single(event: ReportEvent | ReplyEvent) -> None:
    """Take one event at a time."""
    seconds = _orders("single", [event])
    time.sleep(seconds)


@handler(ReportEvent, batch=True, attempts=3)
def whole(events: list[ReportEvent]) -> None:
    """Take all at once."""
    time.sleep(_orders("whole", events))


@handler(ReportEvent, concurrency=4, attempts=3)
async def several(event: ReportEvent) -> None:
    """Take a few at once."""
    await asyncio.sleep(_orders("several", [event]))


ALL: Final[tuple[Callable[..., Any], ...]] = (single, whole, several)
NAMED: Final[dict[str, Callable[..., Any]]] = {"single": single, "whole": whole, "several": several}


def calls(handler: str) -> Counter[str]:
    """Return how often this handler was called with each event, by the event's id."""
    return Counter(event_id for name, event_id in _lines() if name == handler)


def total() -> int:
    """Return how many lines there are."""
    return sum(1 for _ in _lines())


def append_lines(file: Path, *lines: str) -> None:
    """Append lines at once: those of several processes do not mix, and none is lost with a process that is killed."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
    os.close(descriptor)


def read_lines(file: Path) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def _lines() -> Iterable[tuple[str, str]]:
    return ((name, event_id) for name, event_id in read_lines(Path(os.environ[VARIABLE])))


def _orders(handler: str, events: Iterable[ReportEvent | ReplyEvent]) -> float:
    events = list(events)
    append_lines(Path(os.environ[VARIABLE]), *(f"{handler} {event.id}" for event in events))
    seconds = 0.0
    for event in events:
        order, _, value = (getattr(event, "client_message_id", None) or "").partition(":")
        if order == "kills" and calls(handler)[event.id] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "always-kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "waits":
            while not Path(value).exists():
                time.sleep(0.02)
        if order == "rejects":
            raise Reject("not this one")
        if order == "fails":
            raise RuntimeError("as it was told")
        if order == "sleeps":
            seconds = max(seconds, float(value))
    return seconds
