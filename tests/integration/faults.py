"""Workers that meet a fault: a process of its own, whose k-th exchange with Redis is cut, or never begins.

The points of a journey are tried in turn, not at random: an undisturbed run counts its exchanges first. An exchange is
one command, or one pipeline, on its way to Redis and back.

    killed   the process dies (SIGKILL) before the exchange; dying after it is the same as before the next
    unsent   the connection breaks before the exchange
    lost     the connection breaks after it, before the answer is read
    frozen   the process stands still after it, before the answer is read, until another has its work
"""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection as Channel
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import redis

from tests.integration import recorders
from tests.integration.harness import Harness, declaration_of, open_harness, worker_name
from workers.deliver import lease_check, prefetch, retries
from workers.expand import expansion
from workers.runtime import maintenance, redis_retry
from workers.runtime import worker as rq_worker
from workers.runtime.journal_folder import JournalFolder

Fault: TypeAlias = Literal["killed", "unsent", "lost", "frozen"]
# Those after which the run, or the next, goes on by itself.
FAULTS: Final[tuple[Fault, ...]] = ("killed", "unsent", "lost")

# No multiple of 2 or 3: the exchanges of a journey repeat themselves in small rounds.
_STRIDE: Final = 7
_PAUSE_SECONDS: Final = 0.01
# Longer than what a worker that tries this fault takes for a standstill.
_FROZEN_SECONDS: Final = 0.3
_MAX_SECONDS: Final = 60.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.integration.faults"])


# redis-py's connections carry no types.
_Connection: Any = redis.Connection


class Faulty(_Connection):  # type: ignore[misc]
    """A connection with a fault at one exchange, counted over all connections of the process."""

    count = popped = 0
    at = 0
    fault: Fault = "killed"
    _lost = _frozen = False

    @classmethod
    def die_next(cls) -> None:
        """Have the process die before its next exchange."""
        cls.at, cls.fault = cls.count + 1, "killed"

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Faulty.count += 1
        if not Faulty.popped and b"LMOVE" in b"".join(command):
            Faulty.popped = Faulty.count
        if Faulty.count == Faulty.at:
            if Faulty.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if Faulty.fault == "unsent":
                self.disconnect()
                raise redis.ConnectionError("cut before it was sent")
            self._lost, self._frozen = Faulty.fault == "lost", Faulty.fault == "frozen"
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if self._frozen:
            self._frozen = False
            _file("frozen").touch()
            _wait_until(_file("thawed").exists)
        if self._lost:
            self._lost = False
            time.sleep(_PAUSE_SECONDS)  # by now Redis has carried it out
            self.disconnect()
            raise redis.ConnectionError("cut before the answer")
        return super().read_response(*args, **kwargs)


class StageRun:
    """One stage ("expand", or a handler's name) of a service with these handlers: the recorders, if none are named.

    `wait_seconds`, if given, says how long a failed event waits for its next attempt, instead of the service's own;
    `max_items` how many items a round has at most.
    """

    def __init__(
        self,
        url: str,
        stage: str,
        *,
        handlers: Sequence[Callable[..., Any]] = recorders.ALL,
        wait_seconds: Callable[[int], float] | None = None,
        max_items: int | None = None,
    ) -> None:
        self._url = url
        self._stage = stage
        self._handlers = handlers
        self._wait_seconds = wait_seconds
        self._max_items = max_items
        self._queue = "expand" if stage == "expand" else f"deliver-{stage}"

    def fault_points(self) -> range:
        """Run undisturbed, and give the exchanges that took: from the one that pops the first job on."""
        popped, last = self._run(0, "killed", worker_name(self._queue))
        return range(popped, last + 1)

    def run_with_fault_and_rerun(self, at: int, fault: Fault) -> None:
        """Run with a fault, then once more, here."""
        self.run_with_fault(at, fault)
        self.run()

    def run(self) -> None:
        """Run undisturbed in this process."""
        with open_harness(self._url, *self._handlers) as harness:
            _run_stage(harness, self._stage, self._handlers)

    def run_with_fault(self, at: int, fault: Fault) -> None:
        """Run with a fault, and have what it left behind given back, as the supervisor would."""
        name = worker_name(self._queue)
        self._run(at, fault, name)
        self.requeue_leftovers(name)

    def run_frozen_while_another_takes_over(self, at: int) -> None:
        """Run frozen; have what it holds given back, as when its lease has ended, and run that here; let it go on."""
        for file in (_file("frozen"), _file("thawed")):
            file.unlink(missing_ok=True)
        process = self.start(at, "frozen")
        # It may need fewer exchanges than the undisturbed run.
        _wait_until(lambda: _file("frozen").exists() or not process.is_alive())
        time.sleep(_FROZEN_SECONDS)
        self.requeue_leftovers(process.name)
        self.run()
        _file("thawed").touch()
        join_all([process])

    def killed(self, process: "multiprocessing.process.BaseProcess") -> None:
        """Kill a run that was started, and have what it left behind given back."""
        process.kill()
        process.join()
        self.requeue_leftovers(process.name)

    def requeue_leftovers(self, worker: str) -> None:
        """Have what a dead worker left behind given back, as the supervisor would."""
        keeper = maintenance.Maintenance([self._queue], connection=Harness(self._url).connection, journals=journals())
        keeper.record_exit(worker)
        keeper.tick([])
        keeper.tick([])
        keeper.close()

    def start(self, at: int = 0, fault: Fault = "killed") -> "multiprocessing.process.BaseProcess":
        """Start a run, and give its process without waiting for its end."""
        _, sending = _processes.Pipe(duplex=False)
        return self._started(at, fault, worker_name(self._queue), sending)

    def _run(self, at: int, fault: Fault, name: str) -> tuple[int, int]:
        receiving, sending = _processes.Pipe(duplex=False)
        process = self._started(at, fault, name, sending)
        sending.close()
        process.join(_MAX_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{self._stage}: the run with {fault} at {at} did not end")
        with receiving:
            try:
                popped, last = receiving.recv()
            except EOFError:
                return 0, 0  # it was killed
        return int(popped), int(last)

    def _started(self, at: int, fault: Fault, name: str, sending: Channel) -> "multiprocessing.process.BaseProcess":
        # The server that forks has the environment of its own start.
        environment = {recorders.VARIABLE: os.environ.get(recorders.VARIABLE, os.devnull)}
        target = partial(
            _work,
            self._url,
            self._stage,
            self._handlers,
            name=name,
            at=at,
            fault=fault,
            wait_seconds=self._wait_seconds,
            max_items=self._max_items,
            environment=environment,
        )
        process = _processes.Process(target=target, args=(sending,), name=name)
        process.start()
        return process


def points_to_try(points: range, fault: Fault, *, turn: int = 0) -> range:
    """Return all points with CHAOS_SECONDS (`make chaos`), otherwise every seventh: each fault has others.

    Who tries one fault on several handlers gives each another `turn`.
    """
    if "CHAOS_SECONDS" in os.environ:
        return points
    first = FAULTS.index(fault) if fault in FAULTS else 0
    return points[(first + turn * len(FAULTS)) % _STRIDE :: _STRIDE]


def check_at_once(monkeypatch: Any) -> None:
    """Let maintenance in this process check again at once."""
    monkeypatch.setattr(maintenance, "_CHECK_SECONDS", 0.0)


def journals() -> JournalFolder:
    """Return the workers' completion journals, in the folder of the recorders' file."""
    calls = os.environ.get(recorders.VARIABLE, os.devnull)
    return JournalFolder() if calls == os.devnull else JournalFolder(Path(calls).parent / "run")


def _work(
    url: str,
    stage: str,
    handlers: Sequence[Callable[..., Any]],
    sending: Channel,
    *,
    name: str,
    at: int,
    fault: Fault,
    wait_seconds: Callable[[int], float] | None,
    max_items: int | None,
    environment: dict[str, str],
) -> None:
    logging.disable()
    os.environ.update(environment)
    rq_worker._RETRY_SECONDS = redis_retry._RETRY_SECONDS = _PAUSE_SECONDS  # type: ignore[misc]
    if wait_seconds is not None:
        retries.backoff_seconds = wait_seconds  # type: ignore[assignment] # mypy minds the name of its argument
    if max_items is not None:
        expansion.MAX_ITEMS = prefetch.MAX_ITEMS = max_items  # type: ignore[misc]
    if fault == "frozen":
        lease_check._STANDSTILL_SECONDS = _FROZEN_SECONDS / 2  # type: ignore[misc]
    Faulty.at, Faulty.fault = at, fault
    harness = Harness(url, *handlers, journals=journals())
    harness.connection.connection_pool.connection_class = Faulty
    with suppress(redis.RedisError):  # as `workers.process` ends, for its supervisor to start another
        _run_stage(harness, stage, handlers, name=name)
    with suppress(BrokenPipeError):  # who started it need not wait for it
        sending.send((Faulty.popped, Faulty.count))


def _run_stage(harness: Harness, stage: str, handlers: Sequence[Callable[..., Any]], *, name: str = "") -> None:
    if stage == "expand":
        harness.expand(name=name)
    else:
        harness.deliver(next(handler for handler in handlers if declaration_of(handler).name == stage), name=name)


def _file(name: str) -> Path:
    """Return a file in the folder of the recorders' file, by which a frozen process and its test know of each other."""
    return Path(os.environ[recorders.VARIABLE]).with_name(name)


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _MAX_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come about")
        time.sleep(_PAUSE_SECONDS)


def join_all(processes: Sequence["multiprocessing.process.BaseProcess"]) -> None:
    """Wait until all have ended."""
    deadline = time.monotonic() + _MAX_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError("a worker did not end")
