"""A handler that writes down when an event comes and when it goes, and what it said of it: one line each, at once.

A line is the event's id, the pid of the process, and "had" or what the handler said. What it says is "done", but where
the event's `client_message_id` is the name of a file that stands beside: "retry" is tried once more, "dead" rejected.
"""

import os
from pathlib import Path
from typing import Final

from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler
from tests.integration.recorders import append_lines, read_lines

VARIABLE: Final = "RECORDER_FILE"
RETRY: Final = "retry"
DEAD: Final = "dead"
DONE: Final = "done"
HAD: Final = "had"
_RETRY_SECONDS: Final = 0.05


@handler(ReportEvent, ReplyEvent)
def recorder(event: ReportEvent | ReplyEvent) -> None:
    """Take one event at a time."""
    file = Path(os.environ[VARIABLE])
    order = getattr(event, "client_message_id", None) or DONE
    earlier_outcomes = {words[2] for words in read(file) if words[0] == event.id}
    if not file.with_name(order).exists() or (order == RETRY and RETRY in earlier_outcomes):
        order = DONE
    for what in (HAD, order):
        append_lines(file, f"{event.id} {os.getpid()} {what}")
    if order == RETRY:
        raise Retry(after_seconds=_RETRY_SECONDS)
    if order == DEAD:
        raise Reject("as it was told")


def read(file: Path) -> list[tuple[str, int, str]]:
    """Return the lines that were written: event, pid, what happened."""
    return [(event_id, int(pid), what) for event_id, pid, what in read_lines(file)]
