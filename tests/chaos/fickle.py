"""A handler whose mood is set from outside, event by event, and a worker for it that dies where it is told to.

It writes down, one line each and at once, that it has an event ("had") and what it said of it: "done", "fails",
"rejects". In the mood "kills" it ends its process while it has the event, once; in the mood "dooms" the process dies
when it has done with it, before Redis hears of that, once.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from callbacks import Reject, ReplyEvent, ReportEvent, handler
from tests.integration import witnesses
from tests.integration.faults import Faulty, Journey

Mood: TypeAlias = Literal["willing", "fails", "rejects", "kills", "dooms"]

NAME: Final = "fickle"
ATTEMPTS: Final = 2


@handler(ReportEvent, ReplyEvent, name=NAME, attempts=ATTEMPTS)
def fickle(event: ReportEvent | ReplyEvent) -> None:
    """Take one event at a time."""
    mood = _mood_file(event.id)
    found = mood.read_text() if mood.exists() else "willing"
    _note(event.id, "had")
    if found in ("kills", "dooms"):
        mood.unlink()
    if found == "dooms":
        Faulty.die_next()
    if found == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    if found == "rejects":
        _note(event.id, "rejects")
        raise Reject("not in this mood")
    if found == "fails":
        _note(event.id, "fails")
        raise RuntimeError("not in this mood")
    _note(event.id, "done")


def set_mood(event_id: str, mood: Mood) -> None:
    """Decide what the handler does with an event from now on."""
    file = _mood_file(event_id)
    file.parent.mkdir(exist_ok=True)
    file.write_text(mood)


def said(event_id: str) -> list[str]:
    """Give what the handler said of an event, call by call."""
    return [what for found, what in _lines() if found == event_id and what != "had"]


def known() -> set[str]:
    """Give the ids of all events that the handler ever had."""
    return {event_id for event_id, _ in _lines()}


class FickleJourney(Journey):
    """A run of a stage of the service with this handler: "expand" or "fickle"."""

    def __init__(self, url: str, stage: str) -> None:
        super().__init__(url, stage, handlers=(fickle,), wait_seconds=prompt)

    def whole(self) -> None:
        """Run undisturbed, in a process of its own, and give back what it left if its handler killed it."""
        self.broken(0, "killed")


def prompt(attempt: int) -> float:
    """Let failed events come again at once, instead of `retries.backoff_seconds`."""
    return 0.0


def _mood_file(event_id: str) -> Path:
    return _file().parent / "moods" / event_id


def _lines() -> Iterable[tuple[str, str]]:
    return ((event_id, what) for event_id, what in witnesses.written_down(_file()))


def _note(event_id: str, what: str) -> None:
    witnesses.write_down(_file(), f"{event_id} {what}")


def _file() -> Path:
    return Path(os.environ[witnesses.VARIABLE])
