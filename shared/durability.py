"""Whether this Redis keeps what it acknowledges: the checks behind "a 200 means kept", as pure functions.

`query` puts the questions into a pipeline, of a redis.Redis or a redis.asyncio.Redis; `evaluate` reads the answers, and
`read_barrier` reads from them what a commit must wait for. The web process does so every few seconds, `callbacks check`
once. The parameters are those of redis.conf; the fields are those of INFO. Nothing here opens a connection or logs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from shared import memory
from shared.settings import Durability

CONFIG_PARAMETERS: Final = (
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "maxmemory-policy",
    "min-replicas-to-write",
)
INFO_SECTIONS: Final = ("server", "persistence", "replication", "memory", "commandstats")
# Asks for nothing, so it is answered at once; with an error where the command is not there, or not allowed.
_WAITAOF_PROBE: Final = ("WAITAOF", 0, 0, 0)
# RQ pops jobs crash-safely from 6.2 on, the first with BLMOVE; before, a crash between pop and start loses the job.
MIN_VERSION: Final = (6, 2)

_ROLE: Final = "role"
# As INFO names them, if they were called since the start.
_CONFIGURING: Final = frozenset(("cmdstat_config|set", "cmdstat_config|resetstat", "cmdstat_config"))
_EACH_WAITS: Final = "each commit waits for its fsync (WAITAOF)"
_ROLLED_BACK: Final = (
    "no callback is lost by a crash of Redis, but what the workers did in its last second may be rolled back, "
    "and events are then delivered twice"
)


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


@dataclass(frozen=True, slots=True)
class Barrier:
    """What a commit waits for behind its EXEC, in the same round trip.

    `synced`: until the server's own file is synced (WAITAOF, Redis 7.2), where `appendfsync always` does not see to it
    before EXEC is answered. `replicas`: until so many replicas have it too; with `synced`, in their synced files.
    """

    synced: bool = False
    replicas: int = 0


def query(pipe: Any) -> None:
    """Put the questions into `pipe`. Execute it with raise_on_error=False: CONFIG and WAITAOF may be forbidden.

    One CONFIG GET for each parameter, as Redis before 7.0 takes no more; never CONFIG GET *, which has passwords.
    """
    for parameter in CONFIG_PARAMETERS:
        pipe.config_get(parameter)
    for section in INFO_SECTIONS:
        pipe.info(section)
    pipe.execute_command(*_WAITAOF_PROBE)


def evaluate(level: Durability, replies: Sequence[Any]) -> tuple[Finding, ...]:
    """Read what Redis answered to `query` and give the findings for `level`."""
    told = replies[len(CONFIG_PARAMETERS) : -1]
    for reply in told:
        if isinstance(reply, Exception):
            return (unreachable(f"INFO was refused: {type(reply).__name__}"),)
    info = {key: value for reply in told for key, value in reply.items()}
    return evaluate_config(level, _config(replies), info, can_wait=_can_wait(replies))


def read_barrier(level: Durability, replies: Sequence[Any]) -> Barrier:
    """Read from the answers to `query` what makes a commit as durable as `level` asks, where the findings allow one."""
    return choose_barrier(level, _config(replies), can_wait=_can_wait(replies))


def choose_barrier(level: Durability, config: Mapping[str, str] | None, *, can_wait: bool) -> Barrier:
    """Choose the cheapest barrier: under `always`, EXEC is answered after its fsync, so nothing waits for the file."""
    if level == "memory":
        return Barrier()
    return Barrier(synced=can_wait and not _always(config), replicas=1 if level == "replica" else 0)


def _config(replies: Sequence[Any]) -> dict[str, str] | None:
    configured = replies[: len(CONFIG_PARAMETERS)]
    if any(isinstance(reply, redis.RedisError) for reply in configured):
        return None
    return {key: value for reply in configured for key, value in reply.items()}


def _can_wait(replies: Sequence[Any]) -> bool:
    return not isinstance(replies[-1], Exception)


def is_replica(findings: Sequence[Finding]) -> bool:
    """Tell whether the server is a replica: then whoever asked it drops its connections, as the address may lead on."""
    return any(finding.name == _ROLE and not finding.ok for finding in findings)


def unreachable(why: str) -> Finding:
    """Give the finding for a Redis that cannot be asked."""
    return Finding("redis", ok=False, detail=why, remedy="check REDIS_URL, and that the server runs and lets us in")


def evaluate_config(
    level: Durability, config: Mapping[str, str] | None, info: Mapping[str, Any], *, can_wait: bool = False
) -> tuple[Finding, ...]:
    """Judge `config` (what CONFIG GET gave, None where it is forbidden) and `info` (fields of INFO) for `level`.

    `memory` asks for nothing but a primary that answers. `fsync` asks that every write is on disk before its
    answer, or that a commit can wait until it is (`can_wait`: WAITAOF is there), and that nothing is evicted;
    `replica` asks for a connected replica beside.
    """
    found = [Finding("redis", ok=True, detail="answers"), _version(info), _role(info)]
    if level == "memory":
        return tuple(found)
    found += [
        _aof(config, info),
        _fsync(config, can_wait=can_wait),
        _last_write(info),
        _eviction(config, info),
        _room(info),
    ]
    if level == "replica":
        found += [_replicas(info), _seclusion(config)]
    return tuple(found)


def _version(info: Mapping[str, Any]) -> Finding:
    version = str(info.get("redis_version", "unknown"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    ok = len(numbers) < len(MIN_VERSION) or numbers >= MIN_VERSION  # a server that does not say is taken at its word
    return Finding("version", ok=ok, detail=version, remedy="" if ok else "upgrade Redis to 6.2 or newer")


def _role(info: Mapping[str, Any]) -> Finding:
    role = str(info.get("role", "unknown"))
    remedy = "" if role == "master" else "REDIS_URL must lead to the primary; with Sentinel use redis+sentinel://"
    return Finding(_ROLE, ok=role == "master", detail=role, remedy=remedy)


def _aof(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Finding:
    on = str(info.get("aof_enabled")) == "1" if config is None else config.get("appendonly") == "yes"
    if on and str(info.get("loading", 0)) == "1":
        return Finding("appendonly", ok=False, detail="still loading its files", remedy="wait")
    if on and _is_first_rewrite(info):
        return Finding(
            "appendonly",
            ok=False,
            detail="yes, but its first file is not complete yet, and a crash would lose all that was written since",
            remedy="wait for the rewrite that is under way (INFO persistence: aof_rewrite_in_progress)",
        )
    return Finding("appendonly", ok=on, detail="yes" if on else "no", remedy="" if on else _configure("appendonly yes"))


def _is_first_rewrite(info: Mapping[str, Any]) -> bool:
    """Whether Redis writes to a temporary file, which it does not read after a crash, until a rewrite is done.

    It does so after `CONFIG SET appendonly yes`, and on a replica after a full resynchronisation, even when the replica
    is promoted meanwhile. A file that a new server began with has no base size either until its first rewrite, and is
    sound: that is a primary which always was one, and which nobody has configured since it started.
    """
    if not any(str(info.get(field)) == "1" for field in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")):
        return False
    if int(info.get("aof_base_size", 0)) > 0:
        return False
    was_promoted = int(info.get("second_repl_offset", -1)) != -1
    called = {key for key in info if key.startswith("cmdstat_")}
    # Before Redis 7.0 CONFIG SET is not counted apart from CONFIG GET; after a RESETSTAT nobody knows.
    return was_promoted or not called or bool(called & _CONFIGURING)


def _configure(*directives: str) -> str:
    """Say how to configure a running Redis so that its next start does not undo it."""
    return f"CONFIG SET {' and '.join(directives)}, then CONFIG REWRITE, or set it in redis.conf too"


def _always(config: Mapping[str, str] | None) -> bool:
    """Whether every write is synced before its answer.

    With no-appendfsync-on-rewrite Redis skips the fsync for as long as a rewrite of the AOF or a snapshot runs.
    """
    return (
        config is not None
        and config.get("appendfsync") == "always"
        and config.get("no-appendfsync-on-rewrite") != "yes"
    )


def _fsync(config: Mapping[str, str] | None, *, can_wait: bool) -> Finding:
    if _always(config):
        return Finding("appendfsync", ok=True, detail="always")
    if config is None:
        # Refusing everything would lose callbacks for certain, and INFO has shown the rest: believed, but said.
        unseen, otherwise = "cannot be seen, CONFIG is forbidden here", "make sure with the provider that it is always"
        if can_wait:
            return Finding(
                "appendfsync", ok=True, detail=f"{unseen}; {_EACH_WAITS}", remedy=f"{otherwise}; if not: {_ROLLED_BACK}"
            )
        return Finding(
            "appendfsync",
            ok=True,
            detail=unseen,
            remedy=f"{otherwise}; with everysec a crash can take a second's callbacks",
        )
    mode = str(config.get("appendfsync"))
    seen, remedy = mode, _configure("appendfsync always")
    if mode == "always":
        seen, remedy = "always, but not while the file is rewritten", _configure("no-appendfsync-on-rewrite no")
    # With `no` Redis leaves syncing to the system for good, and no WAITAOF would ever be answered.
    if not can_wait or mode == "no":
        return Finding("appendfsync", ok=False, detail=seen, remedy=remedy)
    return Finding(
        "appendfsync", ok=True, detail=f"{seen}; {_EACH_WAITS}", remedy=f"{remedy}; until then {_ROLLED_BACK}"
    )


def _last_write(info: Mapping[str, Any]) -> Finding:
    status = str(info.get("aof_last_write_status", "unknown"))
    remedy = "" if status == "ok" else "the append-only file cannot be written: look at its disk"
    return Finding("aof_last_write", ok=status == "ok", detail=status, remedy=remedy)


def _eviction(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Finding:
    policy = (info if config is None else {"maxmemory_policy": config.get("maxmemory-policy")}).get("maxmemory_policy")
    remedy = "" if policy == "noeviction" else _configure("maxmemory-policy noeviction")
    return Finding("maxmemory_policy", ok=policy == "noeviction", detail=str(policy), remedy=remedy)


def _room(info: Mapping[str, Any]) -> Finding:
    found = memory.parse_info(info)
    if found.max_bytes == 0:
        return Finding("memory", ok=True, detail=f"{found.used_bytes} bytes used, no limit")
    # The rest is for the workers, whose writes make room: with none left they would stand still as well.
    ok = found.share < memory.CALLBACKS_SHARE
    detail = f"{found.used_bytes} of {found.max_bytes} bytes used"
    if not ok:
        detail += f", and above {memory.CALLBACKS_SHARE:.0%} the workers alone may write"
    return Finding("memory", ok=ok, detail=detail, remedy="" if ok else "raise maxmemory, or let the workers catch up")


def _replicas(info: Mapping[str, Any]) -> Finding:
    replicas = [info[key] for key in info if key.startswith("slave") and isinstance(info[key], Mapping)]
    online = sum(replica.get("state") == "online" for replica in replicas)
    remedy = "" if online else "connect a replica, or set CALLBACKS_DURABILITY=fsync"
    return Finding("replicas", ok=online > 0, detail=f"{online} online", remedy=remedy)


def _seclusion(config: Mapping[str, str] | None) -> Finding:
    """Judge whether a primary that was cut off, or hung, goes on taking what its successor never hears of.

    Commits wait for a replica, so of them nothing is lost; but what workers settle there is done again (measured: 3 to
    204 events twice in a failover over a primary that hung, none with min-replicas-to-write).
    """
    least = "unknown" if config is None else str(config.get("min-replicas-to-write", "unknown"))
    remedy = _configure("min-replicas-to-write 1", "min-replicas-max-lag 2") if least in ("0", "unknown") else ""
    return Finding("min_replicas_to_write", ok=True, detail=least, remedy=remedy)
