"""What the peers' workers do with a callback, nothing but count; and their queues' filling, `fill` or `work`.

The rate goes from the first call to the last, so that a worker's start is not held against it.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path


class CallCounter:
    """Counts the calls in one process, and prints the rate when all have come."""

    def __init__(self):
        self.expected = int(os.environ.get("BENCHMARK_CALLBACKS", "0"))
        self.calls = 0
        self.started = 0.0
        self._lock = threading.Lock()

    def call(self):
        with self._lock:
            if self.calls == 0:
                self.started = time.perf_counter()
            self.calls += 1
            is_last = self.calls == self.expected
        if is_last:
            rate = (self.calls - 1) / max(time.perf_counter() - self.started, 1e-9)
            # Standard output may be the worker's own by now.
            os.write(1, f"{json.dumps({'callbacks': self.calls, 'rate': rate})}\n".encode())


counter = CallCounter()


def bodies():
    """Give the bodies to fill a queue with, as text."""
    template = Path(os.environ["BENCHMARK_TEMPLATE"]).read_text()
    mark = os.environ["BENCHMARK_MARK"]
    for number in range(counter.expected):
        yield template.replace(mark, f"{number:0{len(mark)}d}")


def command():
    """Give what this process is to do: `fill` or `work`."""
    return sys.argv[1]
