"""What a figure was measured on, as a figure without it says nothing: cores, kernel, versions, the disk's fsync."""

import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from msgspec import Struct

from callbacks.cli.embedded_redis import find_server
from shared.disk import sync_data

_FSYNCS: Final = 200
_WRITE_BYTES: Final = 4096
_IN_MEMORY: Final = frozenset(("tmpfs", "ramfs"))


class Machine(Struct, frozen=True, kw_only=True):
    """The machine and what runs on it. Latencies are those of a write of 4 KiB with fdatasync."""

    cores: int
    cpu: str
    kernel: str
    python: str
    redis: str
    packages: dict[str, str]
    disk: str
    fsync_p50_ms: float
    fsync_p99_ms: float
    load_before: float
    """The load average of the minute before: more than a little of it, and others took part in the measurement."""

    def __str__(self) -> str:
        return (
            f"{self.cores} cores, {self.cpu}, Linux {self.kernel}, Python {self.python}, Redis {self.redis}, "
            f"{self.disk}, fsync p50 {self.fsync_p50_ms:.2f} ms, p99 {self.fsync_p99_ms:.2f} ms, "
            f"load before {self.load_before:.2f}"
        )


def describe(folder: Path) -> Machine:
    """Describe this machine, with the disk that holds `folder`; takes a second or two."""
    p50_ms, p99_ms = _fsync_ms(folder)
    output = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu(),
        kernel=platform.release(),
        python=platform.python_version(),
        redis=output.partition("v=")[2].partition(" ")[0],
        packages={name: version(name) for name in ("redis", "rq", "starlette", "uvicorn", "uvloop", "httptools")},
        disk=file_system(folder),
        fsync_p50_ms=p50_ms,
        fsync_p99_ms=p99_ms,
        load_before=os.getloadavg()[0],
    )


def disk_folder() -> Path:
    """Return a folder for temporary files on a disk: in memory an fsync would mean nothing."""
    for candidate in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path(__file__).parents[1]):
        if candidate.is_dir() and file_system(candidate) not in _IN_MEMORY:
            return candidate
    raise SystemExit("every folder for temporary files lies in memory: set TMPDIR to one on a disk")


def file_system(folder: Path) -> str:
    """Name the type of the file system that holds `folder`."""
    path = folder.resolve()
    found = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if path.is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1]


def missing(command: str) -> str:
    """Say that `command` is not on the PATH; '' if it is."""
    return "" if shutil.which(command) else f"there is no {command} on the PATH"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _fsync_ms(folder: Path) -> tuple[float, float]:
    took_ms: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_FSYNCS):
            file.write(bytes(_WRITE_BYTES))
            started = time.perf_counter()
            sync_data(file.fileno())
            took_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(took_ms), statistics.quantiles(took_ms, n=100)[98]
