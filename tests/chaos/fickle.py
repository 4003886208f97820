"""A handler whose mood is set from outside, event by event, and a worker for it that dies where it is told to.

It writes down, one line each and at once, that it has an event ("had") and what it said of it: "done", "fails",
"rejects". In the mood "kills" it ends its process while it has the event, once; in the mood "dooms" the process dies
when it has done with it, before Redis hears of that, once.
"""

import logging
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection as Channel
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Literal, TypeAlias

import redis

from tests.integration import faults, witnesses
from tests.integration.faults import Fault, Journey
from tests.integration.workbench import Bench
from workers import Reject, ReplyEvent, ReportEvent, delivering, handler, rq_worker, settling

Mood: TypeAlias = Literal["willing", "fails", "rejects", "kills", "dooms"]

NAME: Final = "fickle"
ATTEMPTS: Final = 2
_PAUSE_SECONDS: Final = 0.01


@handler(ReportEvent, ReplyEvent, name=NAME, attempts=ATTEMPTS)
def fickle(event: ReportEvent | ReplyEvent) -> None:
    """Take one event at a time."""
    mood = _mood_file(event.id)
    found = mood.read_text() if mood.exists() else "willing"
    _note(event.id, "had")
    if found in ("kills", "dooms"):
        mood.unlink()
    if found == "dooms":
        faults._Faulty.at, faults._Faulty.fault = faults._Faulty.count + 1, "killed"
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

    def whole(self) -> None:
        """Run undisturbed, in a process of its own, and give back what it left if its handler killed it."""
        self.broken(0, "killed")

    def _started(self, at: int, fault: Fault, name: str, sending: Channel) -> BaseProcess:
        environment = {witnesses.VARIABLE: os.environ[witnesses.VARIABLE]}
        target = partial(_work, self._url, self._stage, name=name, at=at, fault=fault, environment=environment)
        process = faults._processes.Process(target=target, args=(sending,), name=name)
        process.start()
        return process


def prompt(attempt: int) -> float:
    """Let failed events come again at once, instead of `delivering.wait_seconds`."""
    return 0.0


def _work(
    url: str, stage: str, sending: Channel, *, name: str, at: int, fault: Fault, environment: dict[str, str]
) -> None:
    logging.disable()
    os.environ.update(environment)
    rq_worker._PAUSE_SECONDS = settling._PAUSE_SECONDS = _PAUSE_SECONDS  # type: ignore[misc]
    delivering.wait_seconds = prompt
    faults._Faulty.at, faults._Faulty.fault = at, fault
    bench = Bench(url, fickle, notebooks=faults._notebooks())
    bench.connection.connection_pool.connection_class = faults._Faulty
    with suppress(redis.RedisError):  # as `workers.process` ends, for its supervisor to start another
        if stage == "expand":
            bench.expand(name=name)
        else:
            bench.deliver(fickle, name=name)
    with suppress(BrokenPipeError):  # who started it need not wait for it
        sending.send((faults._Faulty.popped, faults._Faulty.count))


def _mood_file(event_id: str) -> Path:
    return Path(os.environ[witnesses.VARIABLE]).parent / "moods" / event_id


def _lines() -> Iterable[tuple[str, str]]:
    path = Path(os.environ[witnesses.VARIABLE])
    if path.exists():
        for line in path.read_text().splitlines():
            event_id, _, what = line.partition(" ")
            yield event_id, what


def _note(event_id: str, what: str) -> None:
    descriptor = os.open(os.environ[witnesses.VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{event_id} {what}\n".encode())
    os.close(descriptor)
