"""Whether this Redis keeps what it acknowledges: the checks behind "a 200 means kept", as pure functions.

`ask` puts the questions into a pipeline, of a redis.Redis or a redis.asyncio.Redis, and `judge` reads the answers;
the web process does so every few seconds, `callbacks check` once. The parameters are those of redis.conf; the
fields are those of INFO. Nothing here opens a connection or logs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from shared.settings import Durability

CONFIG_PARAMETERS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
INFO_SECTIONS: Final = ("server", "persistence", "replication", "memory")
# RQ pops jobs crash-safely from 6.2 on, the first with BLMOVE; before, a crash between pop and start loses the job.
OLDEST: Final = (6, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, whether it holds, what was seen, and (when it does not hold) what to do about it.

    `ok` with a `remedy` is a check that could not be made and is believed for now: worth a warning.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" + (f" ({self.remedy})" if self.remedy else "")


def ask(pipe: Any) -> None:
    """Put the questions into `pipe`. Execute it with raise_on_error=False: CONFIG may be forbidden.

    One CONFIG GET for each parameter, as Redis before 7.0 takes no more; never CONFIG GET *, which has passwords.
    """
    for parameter in CONFIG_PARAMETERS:
        pipe.config_get(parameter)
    for section in INFO_SECTIONS:
        pipe.info(section)


def judge(level: Durability, replies: Sequence[Any]) -> tuple[Finding, ...]:
    """Read what Redis answered to `ask` and give the findings for `level`."""
    configured, told = replies[: len(CONFIG_PARAMETERS)], replies[len(CONFIG_PARAMETERS) :]
    for reply in told:
        if isinstance(reply, Exception):
            return (unreachable(f"INFO was refused: {type(reply).__name__}"),)
    info = {key: value for reply in told for key, value in reply.items()}
    if any(isinstance(reply, redis.RedisError) for reply in configured):
        return findings(level, None, info)
    return findings(level, {key: value for reply in configured for key, value in reply.items()}, info)


def unreachable(why: str) -> Finding:
    """Give the finding for a Redis that cannot be asked."""
    return Finding("redis", ok=False, detail=why, remedy="check REDIS_URL, and that the server runs and lets us in")


def findings(level: Durability, config: Mapping[str, str] | None, info: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Judge `config` (what CONFIG GET gave, None where it is forbidden) and `info` (fields of INFO) for `level`.

    `memory` asks for nothing but a primary that answers. `fsync` asks that every write is on disk before its
    answer, and that nothing is evicted; `replica` asks for a connected replica beside.
    """
    found = [Finding("redis", ok=True, detail="answers"), _version(info), _role(info)]
    if level == "memory":
        return tuple(found)
    found += [_aof(config, info), _fsync(config), _last_write(info), _eviction(config, info), _room(info)]
    if level == "replica":
        found.append(_replicas(info))
    return tuple(found)


def _version(info: Mapping[str, Any]) -> Finding:
    version = str(info.get("redis_version", "unknown"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    ok = len(numbers) < len(OLDEST) or numbers >= OLDEST  # a server that does not say is taken at its word
    return Finding("version", ok=ok, detail=version, remedy="" if ok else "upgrade Redis to 6.2 or newer")


def _role(info: Mapping[str, Any]) -> Finding:
    role = str(info.get("role", "unknown"))
    remedy = "" if role == "master" else "REDIS_URL must lead to the primary; with Sentinel use redis+sentinel://"
    return Finding("role", ok=role == "master", detail=role, remedy=remedy)


def _aof(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Finding:
    on = str(info.get("aof_enabled")) == "1" if config is None else config.get("appendonly") == "yes"
    if on and str(info.get("loading", 0)) == "1":
        return Finding("appendonly", ok=False, detail="still loading its files", remedy="wait")
    return Finding("appendonly", ok=on, detail="yes" if on else "no", remedy="" if on else "CONFIG SET appendonly yes")


def _fsync(config: Mapping[str, str] | None) -> Finding:
    if config is None:
        # Refusing everything would lose callbacks for certain, and INFO has shown the rest: believed, but said.
        return Finding(
            "appendfsync",
            ok=True,
            detail="cannot be seen, CONFIG is forbidden here",
            remedy="make sure with the provider that it is always; with everysec a crash can take a second's callbacks",
        )
    mode, on_rewrite = config.get("appendfsync"), config.get("no-appendfsync-on-rewrite")
    if mode != "always":
        return Finding("appendfsync", ok=False, detail=str(mode), remedy="CONFIG SET appendfsync always")
    if on_rewrite == "yes":
        # Redis then skips fsync, `always` or not, for as long as a rewrite of the AOF or a snapshot runs.
        return Finding(
            "appendfsync",
            ok=False,
            detail="always, but not while the file is rewritten",
            remedy="CONFIG SET no-appendfsync-on-rewrite no",
        )
    return Finding("appendfsync", ok=True, detail="always")


def _last_write(info: Mapping[str, Any]) -> Finding:
    status = str(info.get("aof_last_write_status", "unknown"))
    remedy = "" if status == "ok" else "the append-only file cannot be written: look at its disk"
    return Finding("aof_last_write", ok=status == "ok", detail=status, remedy=remedy)


def _eviction(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Finding:
    policy = (info if config is None else {"maxmemory_policy": config.get("maxmemory-policy")}).get("maxmemory_policy")
    remedy = "" if policy == "noeviction" else "CONFIG SET maxmemory-policy noeviction"
    return Finding("maxmemory_policy", ok=policy == "noeviction", detail=str(policy), remedy=remedy)


def _room(info: Mapping[str, Any]) -> Finding:
    used_bytes, most_bytes = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most_bytes == 0:
        return Finding("memory", ok=True, detail=f"{used_bytes} bytes used, no limit")
    ok = used_bytes < most_bytes
    remedy = "" if ok else "raise maxmemory, or let the workers catch up"
    return Finding("memory", ok=ok, detail=f"{used_bytes} of {most_bytes} bytes used", remedy=remedy)


def _replicas(info: Mapping[str, Any]) -> Finding:
    replicas = [info[key] for key in info if key.startswith("slave") and isinstance(info[key], Mapping)]
    online = sum(replica.get("state") == "online" for replica in replicas)
    remedy = "" if online else "connect a replica, or set CALLBACKS_DURABILITY=fsync"
    return Finding("replicas", ok=online > 0, detail=f"{online} online", remedy=remedy)
