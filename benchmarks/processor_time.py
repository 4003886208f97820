"""Processor time and instructions of processes and of all that they started: what work costs, whatever else runs."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.deployment import Deployment
from benchmarks.measurements import Measurements

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PERF_SECONDS: Final = 30.0
_PERF: Final = ("perf", "stat", "--field-separator=,", "--event=instructions")


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the processor time of one process in user mode and in the kernel, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS_A_SECOND, int(fields[12]) / _TICKS_A_SECOND  # utime and stime: proc(5)


def metrics(name: str, user_us: float, kernel_us: float) -> Measurements:
    """Return processor time as it is kept: all of it, and that in the kernel."""
    return {f"CPU of {name}, µs": user_us + kernel_us, f"CPU of {name}, µs in the kernel": kernel_us}


def by_name(deployments: Iterable[Deployment]) -> Measurements:
    """Return the processor time of each kind of process that was started, with descendants, in µs; Redis is apart."""
    found: Counter[str] = Counter()
    for one in (process for deployment in deployments for process in deployment.processes):
        for user, kernel in map(cpu_seconds, descendants(one.pid)):
            found.update(metrics(_label(one.name), user * 1e6, kernel * 1e6))
    return dict(found)


def total_us(deployment: Deployment) -> float:
    """Return the processor time of all processes that were started, with descendants, and of Redis, in µs.

    It is finer than 10 ms, but knows nothing of a thread that has ended.
    """
    pids = [int(deployment.redis.info("server")["process_id"])]
    pids += [pid for one in deployment.processes for pid in descendants(one.pid)]
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    # Nanoseconds on a processor come first: "Scheduler Statistics" in the kernel's documentation.
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1000


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
    ended = subprocess.run([*_PERF, "true"], capture_output=True, text=True, check=False)
    return "" if _sum(ended.stderr) else "the processor, or its hypervisor, shows no counter of instructions to perf"


@contextmanager
def instructions(deployments: Iterable[Deployment]) -> Iterator[list[float]]:
    """Count the instructions of all processes meanwhile; the list yielded has their number afterwards, if possible."""
    counted: list[float] = []
    if missing_instructions():
        yield counted
        return
    pids: list[int] = []
    for deployment in deployments:
        pids.append(int(deployment.redis.info("server")["process_id"]))
        pids.extend(pid for one in deployment.processes for pid in descendants(one.pid))
    perf = subprocess.Popen([*_PERF, f"--pid={','.join(map(str, pids))}"], stderr=subprocess.PIPE, text=True)
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
