"""Processor time and instructions of processes and of all that they started: what work costs, whatever else runs."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.deployment import Deployment

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PERF_SECONDS: Final = 30.0
_COUNTED: Final = "instructions"


def cpu_seconds(pid: int) -> float:
    """Return the processor time of one process, in user and kernel mode, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])  # utime and stime: proc(5)
    return (user + system) / _TICKS_A_SECOND


def by_name(deployment: Deployment) -> dict[str, float]:
    """Return the processor time of each process that was started, with that of its descendants; Redis's is apart."""
    return {_label(one.name): sum(map(cpu_seconds, descendants(one.pid))) for one in deployment.processes}


def descendants(pid: int) -> Iterator[int]:
    """Yield `pid`, its children, and theirs."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from descendants(int(child))


@cache
def missing_instructions() -> str:
    """Return why instructions cannot be counted here; '' if they can."""
    if why := machine.missing("perf"):
        return why
    command = ["perf", "stat", "--field-separator=,", f"--event={_COUNTED}", "true"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if _sum(ended.stderr) else "the processor, or its hypervisor, shows no counter of instructions to perf"


@contextmanager
def instructions(deployment: Deployment, event: str = _COUNTED) -> Iterator[list[float]]:
    """Count the instructions of all processes meanwhile; the list yielded has their number afterwards, if possible."""
    counted: list[float] = []
    if event == _COUNTED and missing_instructions():
        yield counted
        return
    pids = [int(deployment.redis.info("server")["process_id"])]
    for one in deployment.processes:
        pids.extend(descendants(one.pid))
    command = ["perf", "stat", "--field-separator=,", f"--event={event}", f"--pid={','.join(map(str, pids))}"]
    perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield counted
    finally:
        perf.send_signal(signal.SIGINT)
        counted.append(_sum(perf.communicate(timeout=_PERF_SECONDS)[1]))


def _label(name: str) -> str:
    """Shorten "callbacks worker expand --processes 1" to "expand"."""
    return name.removeprefix("callbacks ").removeprefix("worker ").split()[0]


def _sum(output: str) -> float:
    """Add up what perf counted; 0 if it could not."""
    numbers = [line.partition(",")[0] for line in output.splitlines() if "," in line]
    return sum(float(number) for number in numbers if number.replace(".", "").isdigit())
