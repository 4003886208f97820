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

_SCRIPT: Final = Path(__file__).with_name("post.lua")
_TIMEOUT_SECONDS: Final = 10


class Load(Struct, frozen=True):
    """What wrk counted. An answer other than 2xx or 3xx is `not_200`: no contestant answers 2xx but 200, or 3xx."""

    requests: int
    duration_us: int
    not_200: int
    connect: int
    read: int
    write: int
    timeout: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / (self.duration_us / 1e6)

    def check(self) -> None:
        """Raise Failed unless every request was answered with 200."""
        wrong = self.not_200 + self.connect + self.read + self.write + self.timeout
        if wrong or not self.requests:
            raise MeasurementFailed(f"{wrong} of {self.requests} requests were not answered with 200: {self}")


def load(url: TargetUrl, *, connections: int, seconds: float, first: int = 0, threads: int = 1, nice: int = 0) -> Load:
    """Post distinct callbacks for `seconds`, numbered from `first`. Raises Failed if any answer is not 200.

    wrk counts its time in whole seconds: less than one is one.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(bodies.template())
        file.flush()
        command = ["nice", "-n", str(nice)] if nice else []
        command += [
            "wrk",
            f"--threads={threads}",
            f"--connections={connections}",
            f"--duration={max(1, round(seconds))}s",
        ]
        command += [f"--timeout={_TIMEOUT_SECONDS}s", f"--script={_SCRIPT}", str(url)]
        command += ["--", file.name, bodies.NUMBER_MARK, str(first)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode != 0 or not lines:
        raise MeasurementFailed(f"wrk ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    counted = msgspec.json.decode(lines[-1], type=Load)
    counted.check()
    return counted
