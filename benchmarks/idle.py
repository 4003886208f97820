"""What the service costs when nothing happens, and how soon it is there. Goal P11.

Time from the start of `callbacks web` to its first 200 for a callback, each attempt on a connection of its own; then
the share of a core and the memory of every process while it stands idle.
"""

import os
import time
from pathlib import Path
from typing import Final

from benchmarks import bodies, command
from benchmarks.command import Run
from benchmarks.deployment import TOKEN, Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import OURS, Measurements
from benchmarks.one_connection import exchange
from benchmarks.processor_time import cpu_seconds
from callbacks.cli.ports import free_port

STARTING: Final = "starting"
IDLE: Final = "standing idle"
# What a start does at once is no cost of standing still.
_SETTLE_SECONDS: Final = 2.0


def measure(run: Run) -> None:
    """Make the table."""
    run.compare(STARTING, {OURS: _starting})
    run.compare(IDLE, {OURS: lambda: _idle(run.scale.quiet_seconds)})
    run.remarks.append("An idle process's CPU time is counted in ticks of 10 ms; its memory is its resident set.")


def _starting() -> Measurements:
    with Deployment() as deployment:
        url = TargetUrl(free_port(), f"/callbacks/{TOKEN}/status")
        request = url.request(bodies.body(0))
        started = time.monotonic()
        process = deployment.callbacks("web", "--port", str(url.port))
        process.wait_until(lambda: _is_accepted(url, request), "its first 200")
        return {"ms to the first 200": (time.monotonic() - started) * 1000}


def _is_accepted(url: TargetUrl, request: bytes) -> bool:
    try:
        with url.connect() as connection:
            exchange(connection, request)
    except (OSError, MeasurementFailed):
        return False
    return True


def _idle(seconds: float) -> Measurements:
    with Deployment() as deployment:
        # A port of its own, as the operators' page would otherwise want its usual one.
        parts = {
            **dict(zip(("expand", "deliver"), deployment.workers(), strict=True)),
            "ops": deployment.callbacks("ops", "--port", str(free_port())),
            "web": deployment.web_process()[1],
        }
        time.sleep(_SETTLE_SECONDS)
        processes = {
            f"{what}, process {number}": pid
            for what, process in parts.items()
            for number, pid in enumerate(process.process_ids())
        }
        before = {name: sum(cpu_seconds(pid)) for name, pid in processes.items()}
        started = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - started
        measured: Measurements = {}
        for name, pid in processes.items():
            measured[f"{name}, % of a core"] = (sum(cpu_seconds(pid)) - before[name]) / took * 100
            measured[f"{name}, MiB"] = _resident_bytes(pid) / (1 << 20)
        measured["the most, % of a core"] = max(value for name, value in measured.items() if name.endswith("core"))
        measured["the most, MiB"] = max(value for name, value in measured.items() if name.endswith("MiB"))
        return measured


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    command.main("idle", measure, "What it costs to stand still, and to start: goal P11.")
