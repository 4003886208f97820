"""Handlers that write down, in the file CALLBACKS_WITNESS_FILE, each call they got: one line, so that no call is lost.

What they do beside that the event says, in its `client_message_id`: "fails" and "rejects" what they say; "kills" ends
the process without a word, the first time; "sleeps:0.5" takes its time.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from workers import Reject, ReplyEvent, ReportEvent, handler

VARIABLE: Final = "CALLBACKS_WITNESS_FILE"


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
    """Give how often this handler was called with each event, by the event's id."""
    return Counter(event_id for name, event_id in _lines() if name == handler)


def total() -> int:
    """Give how many lines there are."""
    return sum(1 for _ in _lines())


def _lines() -> Iterable[tuple[str, str]]:
    path = Path(os.environ[VARIABLE])
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, event_id = line.partition(" ")
            yield name, event_id


def _orders(handler: str, events: Iterable[ReportEvent | ReplyEvent]) -> float:
    events = list(events)
    line = "".join(f"{handler} {event.id}\n" for event in events)
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    seconds = 0.0
    for event in events:
        order, _, value = (getattr(event, "client_message_id", None) or "").partition(":")
        if order == "kills" and calls(handler)[event.id] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "rejects":
            raise Reject("not this one")
        if order == "fails":
            raise RuntimeError("as it was told")
        if order == "sleeps":
            seconds = max(seconds, float(value))
    return seconds
