"""The load for two web processes, where wrk's share of two cores would be the limit: a generator that does less.

Compiled from `load_generator.c` if there is a C compiler: its requests are rendered once, it measures nothing, and is
niced, so that the servers come first. Without a compiler wrk takes its place, niced too.
"""

import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from benchmarks import bodies, wrk
from benchmarks.deployment import MeasurementFailed, TargetUrl
from benchmarks.machine import disk_folder, missing

# Takes URL, connections, seconds and the first number; returns the requests answered with 200, and the rate per second.
Generator: TypeAlias = Callable[[TargetUrl, int, float, int], tuple[int, float]]

NICENESS: Final = 5
_SOURCE: Final = Path(__file__).with_name("load_generator.c")


def generator() -> tuple[Generator, str]:
    """Return the available generator and its description."""
    if missing("cc"):
        return wrk_trimmed, f"wrk with one thread, niced by {NICENESS}, as there is no C compiler."
    return blast, f"benchmarks/load_generator.c, requests rendered once, one thread, niced by {NICENESS}."


def blast(url: TargetUrl, connections: int, seconds: float, first: int) -> tuple[int, float]:
    """Post distinct callbacks with the C program. Raises Failed if any answer is not 200."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(bodies.template())
        file.flush()
        command = [
            "nice",
            "-n",
            str(NICENESS),
            str(_program()),
            str(url.port),
            url.path,
            str(connections),
            str(seconds),
        ]
        command += [str(first), file.name, bodies.NUMBER_MARK]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if ended.returncode != 0:
        raise MeasurementFailed(f"blast ended with {ended.returncode}: {ended.stderr}")
    output = msgspec.json.decode(ended.stdout)
    if output["not_200"] or not output["requests"]:
        raise MeasurementFailed(f"not every request was answered with 200: {output}")
    return output["requests"], output["requests"] / (output["duration_us"] / 1e6)


def wrk_trimmed(url: TargetUrl, connections: int, seconds: float, first: int) -> tuple[int, float]:
    """Post with wrk, one thread, niced."""
    load = wrk.load(url, connections=connections, seconds=seconds, first=first, nice=NICENESS)
    return load.requests, load.rate


@cache
def _program() -> Path:
    _kept.append(tempfile.TemporaryDirectory(prefix="callbacks-blast-", dir=disk_folder()))
    program = Path(_kept[0].name) / "blast"
    command = ["cc", "-O2", "-D_GNU_SOURCE", "-Wall", "-o", str(program), str(_SOURCE)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise MeasurementFailed(f"load_generator.c does not compile:\n{built.stderr}")
    return program


# Removed when this process ends.
_kept: list[tempfile.TemporaryDirectory[str]] = []
