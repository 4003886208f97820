"""How much memory a process takes, as the kernel counts it."""

from pathlib import Path


def resident_mib(pid: int, *, peak: bool = False) -> float:
    """Return a process's resident memory (RSS) in MiB, now or at its highest."""
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM" if peak else "VmRSS") / 1024


def proportional_mib(pid: int) -> float:
    """Return a process's share (PSS): pages that it shares with others count in parts, so that shares can be summed."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / 1024


def _kib(file: Path, name: str) -> int:
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return next(int(value.split()[0]) for key, _, value in lines if key == name)
