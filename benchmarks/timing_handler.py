"""A handler that records when each event arrives: a line with message id and monotonic time in ns.

The lines stand in the file that BENCHMARK_ARRIVALS names when the worker has ended, so that writing delays nothing.
"""

import atexit
import os
import time
from pathlib import Path

from callbacks import ReportEvent, handler

# Open until the worker ends.
_file = Path(os.environ["BENCHMARK_ARRIVALS"]).open("a", buffering=1 << 20)  # noqa: SIM115
atexit.register(_file.close)


@handler(ReportEvent)
def arrived(event: ReportEvent) -> None:
    _file.write(f"{event.message_id} {time.monotonic_ns()}\n")
