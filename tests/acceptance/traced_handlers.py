"""Handlers in whose traces much happens: what each status of a report brings about, and spans of their own."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from opentelemetry import trace

from callbacks import Event, Reject, ReplyEvent, ReportEvent, Retry, handler

RECIPIENT: Final = "35699000001"
TEXT: Final = "meet me at nine"
NAMES: Final = ("archive", "choosy", "slow")

_mine = trace.get_tracer("mine")


@handler(ReportEvent, ReplyEvent, attempts=2)
def choosy(event: Event) -> None:
    """Fail, once or each time, kill the process once, or do nothing, as the status has it."""
    with _mine.start_as_current_span("work of choosy"):
        pass
    if event.kind == "reply":
        return
    if event.status == "UNDELIV" and _is_first_time(event):
        raise ValueError(f"{TEXT} {RECIPIENT}")
    if event.status == "EXPIRED":
        raise Retry(after_seconds=0.01, reason=TEXT)
    if event.status == "REJECTD":
        raise Reject(f"{TEXT} {RECIPIENT}")
    if event.status == "DELETED" and _is_first_time(event):
        os.kill(os.getpid(), signal.SIGKILL)


@handler(ReportEvent, concurrency=4)
async def slow(event: ReportEvent) -> None:
    """Do nothing."""
    with _mine.start_as_current_span("work of slow"):
        pass


@handler(ReportEvent, batch=True)
def archive(events: Sequence[ReportEvent]) -> None:
    """Fail where an UNKNOWN one does not come alone."""
    with _mine.start_as_current_span("work of archive"):
        pass
    if len(events) > 1 and any(event.status == "UNKNOWN" for event in events):
        raise ValueError(TEXT)


def _is_first_time(event: ReportEvent) -> bool:
    """Tell whether no process has had this event before, in this folder."""
    seen = Path(f"seen-{event.message_id}")
    was_there = seen.exists()
    seen.touch()
    return not was_there
