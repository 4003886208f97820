"""The whole service as a platform runs it: processes that are started again when they end, whatever ended them."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.acceptance.processes import Running
from tests.redis_server import RedisServer

PARTS = {"web": ["web"], "expand": ["worker", "expand"], "deliver": ["worker", "deliver", "--processes", "2"]}


class Fleet:
    """The parts of one service, and what was killed so far, and when (unix time in seconds)."""

    def __init__(self, start: Callable[..., Running], redis: RedisServer, chance: random.Random) -> None:
        self._start = start
        self._redis = redis
        self._chance = chance
        self._running: dict[str, Running] = {}
        self.kills: list[tuple[str, float]] = []
        self.revive()

    def revive(self) -> None:
        """Start what has ended, as a platform would."""
        for name, arguments in PARTS.items():
            running = self._running.get(name)
            if running is None or running.process.poll() is not None:
                self._running[name] = self._start(*arguments)

    def break_something(self) -> str:
        """Kill one process of the service, or Redis, without a word; give what it was."""
        victims: list[tuple[str, int]] = []
        for name, running in self._running.items():
            victims.append((name if name == "web" else f"supervisor of {name}", running.process.pid))
            victims.extend((f"worker of {name}", child) for child in children_of(running.process.pid))
        victims.append(("redis", 0))
        what, pid = self._chance.choice(victims)
        self.kills.append((what, time.time()))
        if what == "redis":
            self._redis.kill()
            self._redis.start()
        else:
            kill(pid)
        return what

    def stop(self) -> None:
        """End every part as a platform does at the end of a day."""
        for running in self._running.values():
            running.stop()


def children_of(pid: int) -> Iterator[int]:
    """Give the children of a process that was started here."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            yield int(entry.name)


def kill(pid: int) -> None:
    """End a process of the service at whatever instruction it is."""

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
