"""Handlers that leave something of each form behind: they fail, retry, pause and die until a file `open` is there.

What a handler has finished is a line of a file of its name, so an event that comes twice is two lines.
"""

import os
import signal
import time
from pathlib import Path
from typing import Final

from callbacks import Event, Pause, ReplyEvent, ReportEvent, Retry, handler

FINISHED_SUFFIX: Final = ".finished"
WAITS_SUFFIX: Final = ".waits"
# The `client_message_id` of an event at which a worker dies or waits.
LAST: Final = "last"


@handler(ReportEvent, ReplyEvent)
def archive(event: Event) -> None:
    """Finish each event."""
    finish("archive", event)


@handler(ReportEvent, ReplyEvent, attempts=1)
def shop(event: Event) -> None:
    """Make dead letters, whose error has numbers."""
    if not is_open():
        raise ValueError(f"no order of {event.sender} or {event.recipient}")
    finish("shop", event)


@handler(ReportEvent)
def later(event: ReportEvent) -> None:
    """Ask for a retry in some days."""
    if not is_open():
        raise Retry(after_seconds=20 * 86_400, reason="the shop is closed")
    finish("later", event)


@handler(ReplyEvent)
def chat(event: ReplyEvent) -> None:
    """Pause."""
    if not is_open():
        raise Pause(86_400, reason="the chat is closed")
    finish("chat", event)


@handler(ReportEvent, ReplyEvent)
def held(event: Event) -> None:
    """Finish each event; an operator pauses it first."""
    finish("held", event)


@handler(ReportEvent, statuses={"EXPIRED"})
def dying(event: ReportEvent) -> None:
    """Finish each event but the last, and kill the worker and its supervisor there."""
    die_at_last(event)
    finish("dying", event)


@handler(ReportEvent, statuses={"REJECTD"}, timeout_seconds=3600)
def slow(event: ReportEvent) -> None:
    """Finish each event but the last, slowly enough that some are settled, and wait there."""
    time.sleep(0 if is_open() else 0.2)
    wait_at_last("slow", event)
    finish("slow", event)


def is_open() -> bool:
    """Whether handlers finish all that they get."""
    return Path("open").exists()


def finish(name: str, event: Event) -> None:
    """Note that a handler has finished an event."""
    with Path(name + FINISHED_SUFFIX).open("a", encoding="ascii") as file:
        file.write(f"{event.id}\n")


def wait_at_last(name: str, event: ReportEvent) -> None:
    """Wait if this is the last event of a job."""
    while event.client_message_id == LAST and not is_open():
        Path(name + WAITS_SUFFIX).touch()
        time.sleep(0.05)


def die_at_last(event: ReportEvent) -> None:
    """Kill the worker and its supervisor if this is the last event: nobody takes over what is in the journal."""
    if event.client_message_id == LAST and not is_open():
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
