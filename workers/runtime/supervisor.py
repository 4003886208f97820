"""The parent of worker processes: starts them, starts them again when they end, and stops them in bounded time.

It works on no job itself. What it owes to the queues while it watches is `housekeeping`'s.

Stopping, from SIGTERM: a worker notices within WAIT_SECONDS (1 s), finishes the event that its handler has in hands
(at most the handler's time-out, 30 s unless set), and settles. After `grace_seconds` whoever is left is killed;
its job is given back to its queue like any dead worker's, but counts no death: it was cut off, and did not die of what
it worked on. Redis knows of the stop, for a platform that kills us all before that.
"""

import contextlib
import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

import redis
from msgspec import Struct

from callbacks import launcher
from workers.runtime.exit_codes import EXIT_CONFIGURATION
from workers.runtime.maintenance import Housekeeping

log = logging.getLogger("callbacks.supervisor")

_TICK_SECONDS: Final = 0.2
# A worker that ends soon after its start is started again at ever greater distance, up to this.
_SLOWEST_RESTART_SECONDS: Final = 10.0
# One whose settings or module are wrong waits for a person, or for a file that is being replaced.
_SLOWEST_RESTART_OF_UNFIT_SECONDS: Final = 60.0
_HEALTHY_AFTER_SECONDS: Final = 30.0


class Job(Struct, frozen=True):
    """What a worker process is for: the queue, and what else its command line says."""

    queue: str
    options: tuple[str, ...] = ()


class _Place(Struct):
    """A worker's place: what it is for, the process that holds it now, and when the next may start.

    `was_fit`: a process has worked there, whatever became of it. `is_unfit`: the last one could not be set up.
    """

    job: Job
    process: subprocess.Popen[bytes] | None = None
    name: str = ""
    started: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    was_fit: bool = False
    is_unfit: bool = False

    @property
    def queue(self) -> str:
        return self.job.queue


class Supervisor:
    """Keeps a worker process in each place: one place for each of `jobs`, of which a queue alone is one too."""

    def __init__(self, jobs: Sequence[Job | str], *, housekeeping: Housekeeping, grace_seconds: float) -> None:
        self._places = [_Place(Job(job) if isinstance(job, str) else job) for job in jobs]
        self._housekeeping = housekeeping
        self._loop = housekeeping.background.loop("maintenance")
        self._grace_seconds = grace_seconds
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT; give the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._request_stop)
        # The workers hold the reading end: it shows them our end, however we come to it.
        reading, writing = os.pipe()
        try:
            while not self._stopping:
                for place in self._places:
                    self._look_after(place, lifeline=reading)
                self._keep_house()
                time.sleep(_TICK_SECONDS)
        finally:
            try:
                self._stop_all()
            finally:
                # Should anything have gone wrong there: the workers see this, and end.
                os.close(reading)
                os.close(writing)
        return self._exit_code

    def _request_stop(self, *_: object) -> None:
        self._stopping = True

    def _look_after(self, place: _Place, *, lifeline: int) -> None:
        now = time.monotonic()
        if place.process is not None:
            code = place.process.poll()
            if code is None:
                return
            self._bury(place, code)
            place.is_unfit = code == EXIT_CONFIGURATION
            place.was_fit |= not place.is_unfit or now - place.started > _HEALTHY_AFTER_SECONDS
            if not any(_is_or_was_fit(one, now) for one in self._places):
                # None was ever fit, and none would be the next time: whoever started us has to see that. Where one is
                # fit, or was, its neighbours' settings and a file that is being replaced are no reason to stop.
                self._stopping, self._exit_code = True, code
                return
            place.failures = 0 if now - place.started > _HEALTHY_AFTER_SECONDS else place.failures + 1
            slowest = _SLOWEST_RESTART_OF_UNFIT_SECONDS if place.is_unfit else _SLOWEST_RESTART_SECONDS
            # From 2**10 on it is the slowest anyway, and past 2**1023 no float holds it.
            place.not_before = now + min(0.1 * 2 ** min(place.failures, 10), slowest)
        if now >= place.not_before:
            try:
                self._start(place, lifeline=lifeline)
            except OSError as exc:  # no memory, or no process more: those that live go on
                place.failures += 1
                place.not_before = now + _SLOWEST_RESTART_SECONDS
                log.error("action=worker_not_started queue=%s error=%s", place.queue, exc)

    def _start(self, place: _Place, *, lifeline: int) -> None:
        place.name = f"{place.queue}-{uuid.uuid4().hex}"
        command = launcher.command("workers.process", place.queue, "--name", place.name, *place.job.options)
        # A session of its own keeps a Ctrl-C at the terminal from reaching it beside our own signal.
        place.process = subprocess.Popen(  # noqa: S603 # our own module
            [*command, "--lifeline", str(lifeline), "--grace-seconds", str(self._grace_seconds)],
            pass_fds=(lifeline,),
            # What a handler prints shows when it is printed, in a file or a container's log too.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        place.started = time.monotonic()
        log.info("action=worker_started queue=%s pid=%d", place.queue, place.process.pid)

    def _bury(self, place: _Place, code: int) -> None:
        level = logging.INFO if code == 0 else logging.WARNING
        log.log(level, "action=worker_ended queue=%s exit=%d", place.queue, code)
        place.process = None
        self._housekeeping.forget(place.name)

    def _keep_house(self) -> None:
        self._attempt(
            lambda: self._housekeeping.tick([place.name for place in self._places if place.process is not None])
        )

    def _attempt(self, keep: Callable[[], object]) -> None:
        # Redis away is the workers' trouble, who will say so; there is nothing to keep until it is back. And whatever
        # else is wrong, the workers go on.
        with contextlib.suppress(redis.RedisError):
            self._loop.attempt(keep, reraise=(redis.RedisError,))

    def _stop_all(self) -> None:
        for place in self._places:
            if place.process is not None:
                place.process.terminate()
        self._housekeeping.note_stop()
        deadline = time.monotonic() + self._grace_seconds
        while any(place.process is not None for place in self._places):
            for place in self._places:
                if place.process is None:
                    continue
                if time.monotonic() >= deadline and place.process.poll() is None:
                    log.warning("action=worker_killed queue=%s pid=%d", place.queue, place.process.pid)
                    place.process.kill()
                    place.process.wait()
                code = place.process.poll()
                if code is not None:
                    self._bury(place, code)
            # Whoever takes long to end still needs its lease.
            self._keep_house()
            time.sleep(_TICK_SECONDS)
        self._attempt(self._housekeeping.close)


def _is_or_was_fit(place: _Place, now: float) -> bool:
    lives_long = place.process is not None and now - place.started > _HEALTHY_AFTER_SECONDS
    return place.was_fit or not place.is_unfit or lives_long
