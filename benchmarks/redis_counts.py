"""What Redis did between two moments, in counts that are the same on any machine, and in its own processor time."""

from pathlib import Path
from typing import Any, Final, Self

from msgspec import Struct

from benchmarks.processor_time import cpu_seconds

# What `read` itself asks for.
_READING: Final = "cmdstat_info"


class RedisCounts(Struct, frozen=True, kw_only=True):
    """Counts since the server's start, or between two moments."""

    commands: int
    """Commands, those within scripts and transactions included."""
    round_trips: int
    """Times that the server read from a client: a request up to 16 KiB is one."""
    fsyncs: int
    """With `appendfsync always` each write of the file is followed by one."""
    file_bytes: int
    keys: int
    memory_bytes: int
    """Without its clients' and its file's buffers."""
    user_us: float
    kernel_us: float

    def __sub__(self, before: Self) -> "RedisCounts":
        return RedisCounts(**{name: getattr(self, name) - getattr(before, name) for name in self.__struct_fields__})

    def __add__(self, other: Self) -> "RedisCounts":
        return RedisCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


def read(redis: Any) -> RedisCounts:
    """Return what `redis` has done. Between two calls the second itself is one round trip, and no command."""
    info = redis.info("everything")
    pid = int(info["process_id"])
    user_seconds, kernel_seconds = cpu_seconds(pid)
    # Redis counts no fsyncs: of its writes, those that are no answers are of the file.
    written = next(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/io").read_text().splitlines() if line.startswith("syscw")
    )
    return RedisCounts(
        commands=sum(stat["calls"] for name, stat in info.items() if name.startswith("cmdstat_") and name != _READING),
        round_trips=int(info["total_reads_processed"]),
        fsyncs=written - int(info["total_writes_processed"]),
        file_bytes=int(info["aof_current_size"]),
        keys=int(info.get("db0", {}).get("keys", 0)),
        memory_bytes=memory_bytes(info),
        user_us=user_seconds * 1e6,
        kernel_us=kernel_seconds * 1e6,
    )


def memory_bytes(info: dict[str, Any]) -> int:
    """Return what the data take, without clients' and the file's buffers; `info` is INFO's section `memory`."""
    return int(info["used_memory"]) - int(info["mem_clients_normal"]) - int(info.get("mem_aof_buffer", 0))


def longest_script_ms(redis: Any) -> float:
    """Return the longest time that a script has kept the server; see `watch_scripts`. 0 if all were short."""
    scripts = (b"EVAL", b"FCALL")
    return max(
        (entry["duration"] / 1000 for entry in redis.slowlog_get(-1) if entry["command"].startswith(scripts)),
        default=0.0,
    )


def watch_scripts(redis: Any) -> None:
    """Let the server remember each command that takes longer than 0.1 ms."""
    redis.config_set("slowlog-log-slower-than", 100)
    redis.config_set("slowlog-max-len", 100_000)
    redis.slowlog_reset()
