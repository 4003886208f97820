"""A proxy on the wire between a process and Redis, which counts the process's commands and spoils one of them.

It reads RESP in both directions, so it knows commands and not packets: several that were sent in one write are several
here, and the reply to each is known from the replies to its neighbours. Counting is apart for each role, as what two
processes send at the same time comes in any order. After its fault it lets everything through, as it does without one.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from tests.integration.runtime.pools import alive

Fault: TypeAlias = Literal["cut before", "cut after", "killed"]
_Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FAULTS: Final[tuple[Fault, ...]] = ("cut before", "cut after", "killed")

_READ_BYTES: Final = 1 << 16
_ENDING_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Plan:
    """Which command meets which fault: the `at`-th (1 is the first) that processes of `role` send together.

    cut before   the connection closes, and Redis never hears of the command
    cut after    Redis carries it out and answers; then the connection closes, and the process never hears of that
    killed       the process ends by SIGKILL, and Redis never hears of the command
    """

    role: str
    at: int
    fault: Fault


@dataclass
class Passage:
    """What went through since `Proxy.watch`: commands by role, whether the planned one came, and who was killed."""

    plan: Plan | None
    counts: Counter[str] = field(default_factory=Counter)
    met: bool = False
    killed: int | None = None

    def meets(self, role: str) -> bool:
        """Count a command; whether it is the planned one."""
        if self.met:
            return False
        self.counts[role] += 1
        self.met = self.plan is not None and (self.plan.role, self.plan.at) == (role, self.counts[role])
        return self.met


class Proxy:
    """Listens on `port` of 127.0.0.1 and leads to Redis on `redis_port`; a context manager, in a thread of its own.

    `processes` gives those that may connect: their role by pid. While `refusing` it closes every connection at once.
    """

    def __init__(self, redis_port: int, processes: Callable[[], dict[int, str]]) -> None:
        self._redis_port = redis_port
        self._processes = processes
        self._passage = Passage(None)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._server: asyncio.Server | None = None
        self.port = 0
        self.refusing = False

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result()
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def watch(self, plan: Plan | None) -> Passage:
        """Count anew, the connections that are made from now on, and spoil what `plan` says."""
        self._passage = Passage(plan)
        return self._passage

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        passage, processes = self._passage, self._processes()
        pid = _owner(writer.get_extra_info("peername")[1], self.port, processes)
        role = processes.get(pid, "gone")
        to_redis: asyncio.StreamWriter | None = None
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
            streams = {"process": (reader, writer), "redis": (from_redis, to_redis)}
            await _Connection(passage, owner=(pid, role), **streams).run()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in filter(None, (writer, to_redis)):
                end.transport.abort()


class _Connection:
    """One connection of a process, and the one to Redis behind it: each as what comes in and what goes out."""

    def __init__(self, passage: Passage, *, owner: tuple[int, str], process: _Streams, redis: _Streams) -> None:
        self._passage = passage
        self._pid, self._role = owner
        self._reader, self._writer = process
        self._from_redis, self._to_redis = redis
        self._sent = 0
        self._last: int | None = None  # the number here of the command after whose reply this connection ends

    async def run(self) -> None:
        """Return when the connection is to be closed."""
        ways = [asyncio.create_task(self._commands()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _commands(self) -> None:
        pending = bytearray()
        while data := await self._reader.read(_READ_BYTES):
            pending += data
            for command in _whole_values(pending):
                if self._passage.meets(self._role) and not await self._apply_plan():
                    return
                if self._to_redis.is_closing():
                    return
                self._to_redis.write(command)
                self._sent += 1
                if self._last is not None:
                    await asyncio.Future()  # the way back ends it
            await self._to_redis.drain()

    async def _apply_plan(self) -> bool:
        """Do what the plan says at its command; whether Redis is to hear it."""
        plan = self._passage.plan
        if plan is not None and plan.fault == "killed":
            self._passage.killed = self._pid
            os.kill(self._pid, signal.SIGKILL)
            await _ended(self._pid)
        if plan is None or plan.fault != "cut after":
            return False
        self._last = self._sent + 1
        return True

    async def _replies(self) -> None:
        pending, received = bytearray(), 0
        while data := await self._from_redis.read(_READ_BYTES):
            pending += data
            for reply in _whole_values(pending):
                received += not _is_message(reply)
                if received == self._last or self._writer.is_closing():
                    return
                self._writer.write(reply)
            await self._writer.drain()


def _whole_values(pending: bytearray) -> Iterator[bytes]:
    """Take the complete values off the front of `pending`, one by one: commands, or replies."""
    while (end := value_end(pending, 0)) is not None:
        value = bytes(pending[:end])
        del pending[:end]
        yield value


def value_end(data: bytes | bytearray, start: int) -> int | None:
    """Return where the RESP value that begins at `start` ends (RESP2 and 3); None while it is not all there."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = data[start : start + 1], line + 2
    if kind in b"$!=":
        length = int(data[start + 1 : line])
        end += length + 2 if length >= 0 else 0
        return end if end <= len(data) else None
    if kind not in b"*~>%|":
        return end
    parts = max(0, int(data[start + 1 : line])) * (2 if kind in b"%|" else 1)
    for _ in range(parts + (kind == b"|")):  # attributes stand before the value that they belong to
        following = value_end(data, end)
        if following is None:
            return None
        end = following
    return end


def _is_message(reply: bytes) -> bool:
    """Whether it is what a subscriber is told, which answers no command."""
    return reply[:1] in b"*>" and b"\r\nmessage\r\n" in reply[:32]


def _owner(port: int, proxy_port: int, candidates: dict[int, str]) -> int:
    """Find which of the processes has the connection from `port`; 0 if none has. /proc/net/tcp tells its inode."""
    here, there = (f":{number:04X}" for number in (port, proxy_port))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    inodes = [words[9] for words in lines if words[1].endswith(here) and words[2].endswith(there)]
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in candidates:
        with suppress(OSError):  # it, or one of its files, is gone meanwhile
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in wanted:
                        return pid
    return 0


async def _ended(pid: int) -> None:
    """Wait until the process does nothing any more."""
    async with asyncio.timeout(_ENDING_SECONDS):
        while alive(pid):  # noqa: ASYNC110 # it is no child of ours
            await asyncio.sleep(0.001)
