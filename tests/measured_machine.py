"""A machine that results of benchmarks were measured on, for tests of what is made of results."""

from typing import Final

from benchmarks.machine import Machine

MACHINE: Final = Machine(
    cores=2,
    cpu="a processor",
    kernel="6.1",
    python="3.11.7",
    redis="7.0.15",
    packages={"rq": "3.0"},
    disk="ext4",
    fsync_p50_ms=0.25,
    fsync_p99_ms=0.9,
    load_before=0.1,
)
