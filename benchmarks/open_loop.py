"""Load that does not wait: callbacks sent at a fixed rate, whatever the answers do, as a gateway in a campaign sends.

`python -m benchmarks.open_loop PORT PATH RATE SECONDS FIRST` prints one JSON object. Corrected for coordinated
omission: callback n is due n/RATE seconds after the start, and every latency counts from when it was due, even if it
had to wait for a connection. select() is used as it alone waits with microseconds; epoll's and asyncio's milliseconds
would show in the figures.
"""

import select
import socket
import subprocess
import sys
import time
from collections import deque
from typing import Final

import msgspec
from msgspec import Struct

from benchmarks import bodies
from benchmarks.deployment import REPOSITORY, MeasurementFailed, TargetUrl
from benchmarks.measurements import percentile
from benchmarks.one_connection import read_answer

# Below select's 1,024, and more than a server that keeps up ever needs.
MAX_CONNECTIONS: Final = 256
# From here on there is no point in going on.
_TIMEOUT_SECONDS: Final = 30.0


class Sent(Struct, frozen=True):
    """What was sent: callback n, numbered `first` + n, was due at `start_ns` + n/`rate` s (CLOCK_MONOTONIC)."""

    first: int
    sent: int
    rate: float
    start_ns: int
    not_200: int
    acknowledged_p50_ms: float
    acknowledged_p99_ms: float
    late_max_ms: float
    """The longest that a callback was sent after it was due: the generator was busy, or every connection was."""

    def due_ns(self, number: int) -> int:
        """Return when the callback of this number was due."""
        return self.start_ns + int((number - self.first) / self.rate * 1e9)


def start(url: TargetUrl, rate: float, seconds: float, first: int) -> "subprocess.Popen[str]":
    """Start to send, in a process of its own: see `result`."""
    arguments = map(str, (url.port, url.path, rate, seconds, first))
    command = [sys.executable, "-m", "benchmarks.open_loop", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(sending: "subprocess.Popen[str]") -> Sent:
    """Wait until all was sent. Raise MeasurementFailed unless each callback was answered with 200."""
    output, error = sending.communicate()
    if sending.returncode or (sent := msgspec.json.decode(output, type=Sent)).not_200:
        raise MeasurementFailed(f"the load ended badly:\n{output}{error[-2000:]}")
    return sent


def send(url: TargetUrl, *, rate: float, seconds: float, first: int) -> Sent:
    """Send `rate` callbacks a second for `seconds`, and wait for their answers."""
    parts = url.request(bodies.template()).split(bodies.NUMBER_MARK.encode())
    number, total = 0, max(1, round(rate * seconds))
    free: deque[socket.socket] = deque([url.connect()])
    # When what a connection waits for was due.
    waiting: dict[socket.socket, int] = {}
    latencies_ms: list[float] = []
    not_200 = 0
    late_ns = 0
    start_ns = time.monotonic_ns() + 10_000_000
    while number < total or waiting:
        now_ns = time.monotonic_ns()
        due_ns = start_ns + int(number / rate * 1e9)
        while number < total and due_ns <= now_ns and (free or len(waiting) < MAX_CONNECTIONS):
            connection = free.popleft() if free else url.connect()
            connection.sendall((b"%0*d" % (bodies.NUMBER_DIGITS, first + number)).join(parts))
            waiting[connection] = due_ns
            late_ns = max(late_ns, now_ns - due_ns)
            number += 1
            due_ns = start_ns + int(number / rate * 1e9)
            now_ns = time.monotonic_ns()
        pause = _TIMEOUT_SECONDS
        if number < total and (free or len(waiting) < MAX_CONNECTIONS):
            pause = max(0.0, (due_ns - now_ns) / 1e9)
        ready, _, _ = select.select(waiting, (), (), pause)
        if not ready and pause == _TIMEOUT_SECONDS:
            not_200 += len(waiting)
            break
        now_ns = time.monotonic_ns()
        for connection in ready:
            latencies_ms.append((now_ns - waiting.pop(connection)) / 1e6)
            head = read_answer(connection)
            not_200 += not head.startswith(b"HTTP/1.1 200 ")
            if head:
                free.append(connection)
            else:
                connection.close()
    for connection in (*free, *waiting):
        connection.close()
    p50_ms, p99_ms = (percentile(latencies_ms, share) for share in (0.5, 0.99))
    return Sent(first, number, rate, start_ns, not_200, p50_ms, p99_ms, late_ns / 1e6)


def main() -> None:
    """Send as the arguments say, and print what was sent."""
    port, path, rate, seconds, first = sys.argv[1:]
    sent = send(TargetUrl(int(port), path), rate=float(rate), seconds=float(seconds), first=int(first))
    print(msgspec.json.encode(sent).decode())


if __name__ == "__main__":
    main()
