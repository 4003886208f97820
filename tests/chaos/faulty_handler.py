"""A handler whose behavior is set from outside, event by event, and a worker for it that can be killed at a point.

For each call it writes a line at once: that it has an event ("had"), and its result: "done", "fails", "rejects". With
the behavior "kills" it kills its process while it has the event, once; with "dooms" the process dies after the call,
before Redis learns of the result, once.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from callbacks import Reject, ReplyEvent, ReportEvent, handler
from tests.integration import recorders
from tests.integration.faults import Faulty, StageRun

Behavior: TypeAlias = Literal["willing", "fails", "rejects", "kills", "dooms"]

NAME: Final = "faulty"
ATTEMPTS: Final = 2


@handler(ReportEvent, ReplyEvent, name=NAME, attempts=ATTEMPTS)
def faulty(event: ReportEvent | ReplyEvent) -> None:
    """Take one event at a time."""
    behavior = _behavior_file(event.id)
    found = behavior.read_text() if behavior.exists() else "willing"
    _record(event.id, "had")
    if found in ("kills", "dooms"):
        behavior.unlink()
    if found == "dooms":
        Faulty.die_next()
    if found == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    if found == "rejects":
        _record(event.id, "rejects")
        raise Reject("as the behavior says")
    if found == "fails":
        _record(event.id, "fails")
        raise RuntimeError("as the behavior says")
    _record(event.id, "done")


def set_behavior(event_id: str, behavior: Behavior) -> None:
    """Decide what the handler does with an event from now on."""
    file = _behavior_file(event_id)
    file.parent.mkdir(exist_ok=True)
    file.write_text(behavior)


def said(event_id: str) -> list[str]:
    """Return what the handler said of an event, call by call."""
    return [what for found, what in _lines() if found == event_id and what != "had"]


def known() -> set[str]:
    """Return the ids of all events that the handler ever had."""
    return {event_id for event_id, _ in _lines()}


class FaultyHandlerRun(StageRun):
    """A run of a stage of the service with this handler: "expand" or "faulty"."""

    def __init__(self, url: str, stage: str) -> None:
        super().__init__(url, stage, handlers=(faulty,), wait_seconds=prompt)

    def whole(self) -> None:
        """Run undisturbed, in a process of its own, and give back what it left if its handler killed it."""
        self.run_with_fault(0, "killed")


def prompt(attempt: int) -> float:
    """Let failed events come again at once, instead of `retries.backoff_seconds`."""
    return 0.0


def _behavior_file(event_id: str) -> Path:
    return _file().parent / "behaviors" / event_id


def _lines() -> Iterable[tuple[str, str]]:
    return ((event_id, what) for event_id, what in recorders.read_lines(_file()))


def _record(event_id: str, what: str) -> None:
    recorders.append_lines(_file(), f"{event_id} {what}")


def _file() -> Path:
    return Path(os.environ[recorders.VARIABLE])
