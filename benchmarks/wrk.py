"""Load from as many connections as asked for, each sending its next callback when the last is answered: Debian's wrk.

It shares the cores with what it measures, at about 10 µs of a core for a request: the same for every contestant.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from benchmarks import bodies
from benchmarks.deployment import MeasurementFailed, TargetUrl
from benchmarks.machine import missing

_SCRIPT: Final = Path(__file__).with_name("post.lua")
_TIMEOUT_SECONDS: Final = 10
WARM_UP_FIRST: Final = 50_000_000_000


class Load(Struct, frozen=True):
    """What wrk counted; `wrong` is what had no answer, or not 200: no contestant answers another 2xx, or 3xx."""

    requests: int
    duration_us: int
    wrong: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / (self.duration_us / 1e6)


def warm_up(url: TargetUrl, *, connections: int, first: int = 0) -> None:
    """Load for a second, with callbacks that no measurement has: numbered from `first` + WARM_UP_FIRST."""
    load(url, connections=connections, seconds=1, first=first + WARM_UP_FIRST)


def load(url: TargetUrl, *, connections: int, seconds: float, first: int = 0, nice: int = 0) -> Load:
    """Post distinct callbacks for `seconds`, numbered from `first`. Raise MeasurementFailed if an answer is not 200.

    wrk counts its time in whole seconds: less than one is one.
    """
    if why := missing("wrk"):
        raise SystemExit(f"{why}: install Debian's package wrk")
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(bodies.template())
        file.flush()
        command = ["nice", "-n", str(nice), "wrk", "--threads=1", f"--connections={connections}"]
        command += [f"--duration={max(1, round(seconds))}s", f"--timeout={_TIMEOUT_SECONDS}s"]
        command += [f"--script={_SCRIPT}", str(url)]
        command += ["--", file.name, bodies.NUMBER_MARK, str(first)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode != 0 or not lines:
        raise MeasurementFailed(f"wrk ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    counted = msgspec.json.decode(lines[-1], type=Load)
    if counted.wrong or not counted.requests:
        raise MeasurementFailed(f"{counted.wrong} of {counted.requests} requests were not answered with 200")
    return counted
