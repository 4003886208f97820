"""The whole service as a platform runs it: processes that are started again when they end, whatever ended them."""

import os
import random
import signal
from collections.abc import Callable

from tests.acceptance.processes import Running
from tests.forkserver import children
from tests.redis_server import RedisServer

PARTS = {"web": ["web"], "expand": ["worker", "expand"], "deliver": ["worker", "deliver", "--processes", "2"]}


class Fleet:
    """The parts of one service, and what was killed so far: in words, and the process ids."""

    def __init__(self, start: Callable[..., Running], redis: RedisServer, chance: random.Random) -> None:
        self._start = start
        self._redis = redis
        self._chance = chance
        self._running: dict[str, Running] = {}
        self.kills: list[str] = []
        self.killed: set[int] = set()
        self.revive()

    def revive(self) -> None:
        """Start what has ended, as a platform would."""
        for name, arguments in PARTS.items():
            running = self._running.get(name)
            if running is None or running.process.poll() is not None:
                self._running[name] = self._start(*arguments)

    def break_something(self) -> None:
        """Kill one process of the service, a whole pool of them, or Redis, without a word."""
        victims: list[tuple[str, list[int]]] = [("redis", []), ("redis, tearing its file", [])]
        for name, running in self._running.items():
            pid = running.process.pid
            workers = children(pid)
            if name == "web":
                victims.append((name, [pid]))
                continue
            victims += [(f"supervisor of {name}", [pid]), (f"pool of {name}", [pid, *workers])]
            victims += [(f"worker of {name}", [child]) for child in workers]
        what, pids = self._chance.choice(victims)
        self.kills.append(what)
        self.killed.update(pids)
        for pid in pids:
            kill(pid)
        if not pids:
            self._redis.kill()
            if "tearing" in what:
                self._redis.tear()
            self._redis.start()

    def stop(self) -> None:
        """End every part as a platform does at the end of a day."""
        for running in self._running.values():
            running.stop()


def kill(pid: int) -> None:
    """End a process of the service at whatever instruction it is."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
