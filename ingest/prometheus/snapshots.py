"""Snapshots of the web processes: what each has counted and its state, sent to the process that serves /metrics.

With WEB_CONCURRENCY above 1 each process counts for itself, and the one that started them adds up. They send their
numbers once a second through a pair of sockets: nothing is written to a disk, because the disk may be what fails.
Sending blocks nothing; a snapshot that finds no room is left out, and the next one has the same numbers.
"""

import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from shared.background import Background
from shared.metrics import Metrics

SEND_SECONDS: Final = 1.0
# A process that has sent nothing for this long hangs or has ended: only what it counted still counts.
LIVE_SECONDS: Final = 15.0
# A snapshot has 2 to 5 KB, more with many tokens. Linux allows this; macOS has 2 KB if it is not asked for more.
_BUFFER_BYTES: Final = 200 << 10
_CLOSE_SECONDS: Final = 1.0


class ProcessSnapshot(Struct, frozen=True, kw_only=True):
    """What one process sends: `process` is its name, `state` is None in its last one."""

    process: str
    pid: int
    metrics: dict[str, int]
    state: dict[str, Any] | None = None


class SnapshotSender:
    """Sends this process's `metrics` and `state()` through `channel` while it runs, and its metrics at its end.

    Without a channel it does nothing.
    """

    def __init__(
        self,
        channel: socket.socket | None,
        metrics: Metrics,
        state: Callable[[], Mapping[str, Any]],
        *,
        background: Background,
    ) -> None:
        self._channel = channel
        self._metrics = metrics
        self._state = state
        self._name = uuid.uuid4().hex
        self._ending = threading.Event()
        self._thread = background.make_thread(
            "metrics_snapshot", self.send, every_seconds=SEND_SECONDS, ending=self._ending
        )

    def start(self) -> None:
        """Send a first snapshot, and start the thread."""
        if self._channel is None:
            return
        self._channel.setblocking(False)
        self.send()
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and send a last snapshot."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self.send(is_last=True)

    def send(self, *, is_last: bool = False) -> None:
        """Send a snapshot now, unless there is no room for it."""
        if self._channel is None:
            return
        state = None if is_last else dict(self._state())
        snapshot = ProcessSnapshot(process=self._name, pid=os.getpid(), metrics=self._metrics.snapshot(), state=state)
        try:
            self._channel.send(msgspec.msgpack.encode(snapshot))
        except (BlockingIOError, ConnectionError):
            return  # the process that serves /metrics is busy, or has ended


class Snapshots:
    """The last snapshot of each process, and the sum of those that have ended. Any thread may read it."""

    def __init__(self, background: Background, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._receiving, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end, option in ((self._receiving, socket.SO_RCVBUF), (self.channel, socket.SO_SNDBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._now_seconds = now_seconds
        self._last: dict[str, tuple[float, ProcessSnapshot]] = {}
        self._ended: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = background.make_thread(
            "metrics_snapshots", self._receive, every_seconds=0.0, ending=self._ending
        )

    def start(self) -> None:
        """Start receiving."""
        self._thread.start()

    def close(self) -> None:
        """Stop receiving."""
        self._ending.set()
        if self._thread.is_alive():
            # An empty datagram wakes the thread on every system.
            with suppress(OSError):
                self.channel.send(b"")
            self._thread.join(_CLOSE_SECONDS)
        self._receiving.close()
        self.channel.close()

    def add(self, snapshot: ProcessSnapshot) -> None:
        """Take a snapshot in place of the last one of its process."""
        now_seconds = self._now_seconds()
        with self._lock:
            self._last[snapshot.process] = now_seconds, snapshot
            for name, (received_seconds, last) in list(self._last.items()):
                if now_seconds - received_seconds > LIVE_SECONDS and not _is_running(last.pid):
                    self._ended.update(last.metrics)
                    del self._last[name]

    def metrics(self) -> dict[str, int]:
        """Return what all processes have counted, the ended ones too: a sum that only grows."""
        with self._lock:
            found = Counter(self._ended)
            for _, snapshot in self._last.values():
                found.update(snapshot.metrics)
        return dict(found)

    def live(self) -> list[ProcessSnapshot]:
        """Return the last snapshot of each process that runs."""
        now_seconds = self._now_seconds()
        with self._lock:
            last = list(self._last.values())
        return [snapshot for at, snapshot in last if snapshot.state is not None and now_seconds - at <= LIVE_SECONDS]

    def _receive(self) -> None:
        received = self._receiving.recv(_BUFFER_BYTES)
        if received:
            self.add(msgspec.msgpack.decode(received, type=ProcessSnapshot))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
