"""A handler that writes down when an event comes and when it goes, and what it said of it: one line each, at once.

A line is the event's id, the pid of the process, and "had" or what the handler said. What it says is "done", but where
the event's `client_message_id` is the name of a file that stands beside: "again" is tried once more, "dead" rejected.
"""

import os
from pathlib import Path
from typing import Final

from workers import Reject, ReplyEvent, ReportEvent, Retry, handler

VARIABLE: Final = "WITNESS_FILE"
AGAIN: Final = "again"
DEAD: Final = "dead"
DONE: Final = "done"
HAD: Final = "had"
_AGAIN_SECONDS: Final = 0.05


@handler(ReportEvent, ReplyEvent)
def witness(event: ReportEvent | ReplyEvent) -> None:
    """Take one event at a time."""
    file = Path(os.environ[VARIABLE])
    order = getattr(event, "client_message_id", None) or DONE
    said_before = {words[2] for words in read(file) if words[0] == event.id}
    if not file.with_name(order).exists() or (order == AGAIN and AGAIN in said_before):
        order = DONE
    _note(file, event.id, HAD)
    _note(file, event.id, order)
    if order == AGAIN:
        raise Retry(after_seconds=_AGAIN_SECONDS)
    if order == DEAD:
        raise Reject("as it was told")


def read(file: Path) -> list[tuple[str, int, str]]:
    """Give the lines that were written: event, pid, what happened."""
    if not file.exists():
        return []
    words = (line.split() for line in file.read_text().splitlines())
    return [(event_id, int(pid), what) for event_id, pid, what in words]


def _note(file: Path, event_id: str, what: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{event_id} {os.getpid()} {what}\n".encode())
    os.close(descriptor)
