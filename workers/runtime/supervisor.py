"""The parent of worker processes: starts them, restarts them when they end, and stops them in bounded time.

It runs no jobs itself. What the queues need meanwhile is the task of `maintenance`.

Stopping, from SIGTERM: a worker notices within WAIT_SECONDS (1 s), finishes its calls in progress (at most the
handler's timeout, 30 s unless set), and settles. After `grace_seconds` the supervisor kills the workers that are left;
their jobs are requeued like any dead worker's, but that does not count as a death, because no item caused it. Redis
knows of the stop, in case the platform kills all processes before that.
"""

import contextlib
import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import redis
from msgspec import Struct

from callbacks import launcher
from shared.liveness import Liveness
from shared.structured_log import get_logger
from workers.runtime.exit_codes import EXIT_CONFIGURATION
from workers.runtime.maintenance import Maintenance

log = get_logger("callbacks.supervisor")

_TICK_SECONDS: Final = 0.2
# A worker that ends soon after its start is restarted after a longer time each time, up to this.
_MAX_RESTART_SECONDS: Final = 10.0
# One whose settings or module are wrong needs a person, or a file that is being replaced.
_MAX_RESTART_OF_MISCONFIGURED_SECONDS: Final = 60.0
_HEALTHY_AFTER_SECONDS: Final = 30.0


class WorkerSpec(Struct, frozen=True):
    """What a worker process is to do: its queue, and further options of its command line.

    `environment` are variables that it gets where the supervisor has none of that name.
    """

    queue: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}


class _Slot(Struct):
    """One worker to keep running: its process, and when the next one may start.

    `was_usable`: one of its processes has worked. `is_misconfigured`: the last one could not be set up.
    """

    spec: WorkerSpec
    process: subprocess.Popen[bytes] | None = None
    name: str = ""
    started_at: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    was_usable: bool = False
    is_misconfigured: bool = False

    @property
    def queue(self) -> str:
        return self.spec.queue


class Supervisor:
    """Keeps one worker process running for each of `specs`; the name of a queue stands for a spec without options."""

    def __init__(
        self,
        specs: Sequence[WorkerSpec | str],
        *,
        maintenance: Maintenance,
        grace_seconds: float,
        liveness: Liveness | None = None,
    ) -> None:
        self._slots = [_Slot(WorkerSpec(spec) if isinstance(spec, str) else spec) for spec in specs]
        self._maintenance = maintenance
        self._loop = maintenance.background.loop("maintenance")
        self._grace_seconds = grace_seconds
        self._liveness = liveness or Liveness()
        maintenance.beat = self._liveness.beat
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._request_stop)
        # The workers hold the reading end, which shows them the end of this process, whatever its cause.
        reading, writing = os.pipe()
        try:
            while not self._stopping:
                for slot in self._slots:
                    self._check(slot, lifeline=reading)
                self._liveness.ready()
                self._run_maintenance()
                self._liveness.beat()
                time.sleep(_TICK_SECONDS)
        finally:
            try:
                self._stop_all()
            finally:
                # If the stop failed: the workers see this, and end.
                os.close(reading)
                os.close(writing)
        return self._exit_code

    def _request_stop(self, *_: object) -> None:
        self._stopping = True

    def _check(self, slot: _Slot, *, lifeline: int) -> None:
        now = time.monotonic()
        if slot.process is not None:
            code = slot.process.poll()
            if code is None:
                return
            self._reap(slot, code)
            slot.is_misconfigured = code == EXIT_CONFIGURATION
            slot.was_usable |= not slot.is_misconfigured or now - slot.started_at > _HEALTHY_AFTER_SECONDS
            if not any(_is_or_was_usable(one, now) for one in self._slots):
                # None was ever usable, and none would be the next time, which this process's exit code has to show. If
                # one is usable, or was, the others' settings or a file that is being replaced are no reason to stop.
                self._stopping, self._exit_code = True, code
                return
            slot.failures = 0 if now - slot.started_at > _HEALTHY_AFTER_SECONDS else slot.failures + 1
            max_seconds = _MAX_RESTART_OF_MISCONFIGURED_SECONDS if slot.is_misconfigured else _MAX_RESTART_SECONDS
            # From 2**10 on it is the maximum anyway, and a float overflows past 2**1023.
            slot.restart_at = now + min(0.1 * 2 ** min(slot.failures, 10), max_seconds)
        if now >= slot.restart_at:
            try:
                self._start(slot, lifeline=lifeline)
            except OSError as exc:  # no memory, or too many processes: the other workers continue
                slot.failures += 1
                slot.restart_at = now + _MAX_RESTART_SECONDS
                log.error("worker_start_failed", queue=slot.queue, error=exc)

    def _start(self, slot: _Slot, *, lifeline: int) -> None:
        slot.name = f"{slot.queue}-{uuid.uuid4().hex}"
        command = launcher.command("workers.process", slot.queue, "--name", slot.name, *slot.spec.options)
        # In a session of its own it does not get the terminal's Ctrl-C as well as the supervisor's signal.
        slot.process = subprocess.Popen(  # noqa: S603 # our own module
            [*command, "--lifeline", str(lifeline), "--grace-seconds", str(self._grace_seconds)],
            pass_fds=(lifeline,),
            # What a handler prints is visible at once, in a file or a container's log too.
            env={**slot.spec.environment, **os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        slot.started_at = time.monotonic()
        log.info("worker_started", queue=slot.queue, pid=slot.process.pid)

    def _reap(self, slot: _Slot, code: int) -> None:
        level = logging.INFO if code == 0 else logging.WARNING
        log.log(level, "worker_ended", queue=slot.queue, exit=code)
        slot.process = None
        self._maintenance.record_exit(slot.name)

    def _run_maintenance(self) -> None:
        self._attempt(lambda: self._maintenance.tick([slot.name for slot in self._slots if slot.process is not None]))

    def _attempt(self, task: Callable[[], object]) -> None:
        # While Redis is unavailable the workers say so, and there is nothing to maintain. Whatever else is wrong, the
        # workers continue.
        with contextlib.suppress(redis.RedisError):
            self._loop.attempt(task, reraise=(redis.RedisError,))

    def _stop_all(self) -> None:
        self._liveness.stopping()
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        self._maintenance.begin_stop()
        deadline = time.monotonic() + self._grace_seconds
        while any(slot.process is not None for slot in self._slots):
            for slot in self._slots:
                if slot.process is None:
                    continue
                if time.monotonic() >= deadline and slot.process.poll() is None:
                    log.warning("worker_killed", queue=slot.queue, pid=slot.process.pid)
                    slot.process.kill()
                    slot.process.wait()
                code = slot.process.poll()
                if code is not None:
                    self._reap(slot, code)
            # A worker that takes long to end still needs its lease.
            self._run_maintenance()
            self._liveness.beat()
            time.sleep(_TICK_SECONDS)
        self._attempt(self._maintenance.close)


def _is_or_was_usable(slot: _Slot, now: float) -> bool:
    lives_long = slot.process is not None and now - slot.started_at > _HEALTHY_AFTER_SECONDS
    return slot.was_usable or not slot.is_misconfigured or lives_long
