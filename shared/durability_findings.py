"""What is found of a Redis, check by check: whether it keeps what it acknowledges, and what to do if it does not.

Pure functions of the parameters of redis.conf and the fields of INFO that `durability.query` asks for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import memory
from shared.setting_values import Durability

# RQ needs BLMOVE, which came with 6.2, to pop jobs safely: without it a crash between pop and start loses the job.
MIN_VERSION: Final = (6, 2)
_ROLE: Final = "role"
_REWRITTEN: Final = "aof_rewritten"
_NOT_SINCE_START: Final = "not since Redis started, so a crash may have left half a transaction at its end"
# As INFO names them, if they were called since Redis started.
_CONFIGURING: Final = frozenset(("cmdstat_config|set", "cmdstat_config|resetstat", "cmdstat_config"))
_ONLY_PROMISED: Final = "as the provider promises; this service cannot check it"
_READ_THE_PROMISE: Final = (
    "read what the provider promises of an acknowledged write, also at a failover; docs/redis.md says where "
    "CALLBACKS_DURABILITY=fsync can be used instead"
)
_EACH_WAITS: Final = "each commit waits for its fsync (WAITAOF)"
_ROLLED_BACK: Final = (
    "no callback is lost by a crash of Redis, but what the workers did in its last second may be rolled back, "
    "and events are then delivered twice"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: its name, whether it passed, what was found, and (if it failed) what to do.

    `ok` with a `remedy` is a check that could not be made and is assumed to pass: worth a warning.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" + (f" ({self.remedy})" if self.remedy else "")


def evaluate_config(
    level: Durability,
    config: Mapping[str, str] | None,
    info: Mapping[str, Any],
    *,
    can_wait: bool = False,
    can_rewrite: bool = False,
) -> tuple[Finding, ...]:
    """Return the findings for `level` from `config` (of CONFIG GET; None if it is forbidden) and `info` (of INFO).

    `memory` needs only a primary that answers. `fsync` needs every write to be on disk before its reply, or a commit
    that can wait for that (`can_wait`: WAITAOF is available), and no eviction. `replica` needs a connected replica too.
    `managed` takes the provider's word for the disk, with a warning; what the server shows to be wrong still fails.
    """
    found = [Finding("redis", ok=True, detail="answers"), _version(info), *_mode(info)]
    if level == "managed":
        return (*found, *_managed(config, info))
    found.append(_role(info))
    if level == "memory":
        return tuple(found)
    found += [
        _aof(config, info),
        _rewritten(config, info, can_rewrite=can_rewrite),
        _fsync(config, can_wait=can_wait),
        _last_write(info),
        _eviction(config, info),
        _memory(info),
    ]
    if level == "replica":
        found += [_replicas(info), _min_replicas(config)]
    return tuple(found)


def is_replica(findings: Sequence[Finding]) -> bool:
    """Return whether the server is a replica. The caller then drops its connections: the URL may lead elsewhere now."""
    return any(finding.name == _ROLE and not finding.ok for finding in findings)


def needs_rewrite(findings: Sequence[Finding]) -> bool:
    """Return whether BGREWRITEAOF is what Redis needs now."""
    return any(finding.name == _REWRITTEN and not finding.ok for finding in findings)


def is_for_the_web_process(finding: Finding) -> bool:
    """Return whether the web process deals with this at its start, so that nobody else has to."""
    return finding.ok and finding.name == _REWRITTEN and finding.detail == _NOT_SINCE_START


def unreachable(why: str) -> Finding:
    """Return the finding for a Redis that does not answer."""
    remedy = "check REDIS_URL, that the server runs, and that it accepts our user and password"
    return Finding("redis", ok=False, detail=why, remedy=remedy)


def _managed(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Iterator[Finding]:
    yield Finding("managed", ok=True, detail=_ONLY_PROMISED, remedy=_READ_THE_PROMISE)
    yield _role(info) if "role" in info else _unknown(_ROLE, "check that REDIS_URL leads to the primary")
    if str(info.get("loading", 0)) == "1":
        yield Finding("loading", ok=False, detail="still loading its data", remedy="wait until it has loaded them")
    if str(info.get("aof_enabled")) == "1" and "aof_last_write_status" in info:
        yield _last_write(info)
    if config is None and "maxmemory_policy" not in info:
        yield _unknown("maxmemory_policy", "set noeviction at the provider: else a full Redis drops callbacks")
    else:
        yield _eviction(config, info)
    yield _memory(info) if "used_memory" in info else _unknown("memory", "watch it with the provider's own metrics")


def _unknown(name: str, remedy: str) -> Finding:
    return Finding(name, ok=True, detail="unknown, as this Redis does not say", remedy=remedy)


def _version(info: Mapping[str, Any]) -> Finding:
    version = str(info.get("redis_version", "unknown"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    # If the server does not say, it is assumed to be new enough.
    ok = len(numbers) < len(MIN_VERSION) or numbers >= MIN_VERSION
    return Finding("version", ok=ok, detail=version, remedy="" if ok else "upgrade Redis to 6.2 or newer")


def _mode(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding if the server is of a cluster: there no transaction has keys of several slots."""
    if str(info.get("redis_mode")) == "cluster":
        remedy = "use a Redis without cluster mode: a batch is one transaction over several keys"
        yield Finding("mode", ok=False, detail="cluster", remedy=remedy)


def _role(info: Mapping[str, Any]) -> Finding:
    role = str(info.get("role", "unknown"))
    remedy = "" if role == "master" else "REDIS_URL must lead to the primary; with Sentinel use redis+sentinel://"
    return Finding(_ROLE, ok=role == "master", detail=role, remedy=remedy)


def _aof(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Finding:
    on = str(info.get("aof_enabled")) == "1" if config is None else config.get("appendonly") == "yes"
    if on and str(info.get("loading", 0)) == "1":
        return Finding("appendonly", ok=False, detail="still loading its files", remedy="wait until it has loaded them")
    if on and _is_first_rewrite(info):
        return Finding(
            "appendonly",
            ok=False,
            detail="yes, but its first file is not complete, so a crash would lose everything written since",
            remedy="wait for the rewrite that is under way (INFO persistence: aof_rewrite_in_progress)",
        )
    return Finding("appendonly", ok=on, detail="yes" if on else "no", remedy="" if on else _configure("appendonly yes"))


def _is_first_rewrite(info: Mapping[str, Any]) -> bool:
    """Return whether Redis writes to a temporary file, which it does not read after a crash, until a rewrite is done.

    It does so after `CONFIG SET appendonly yes`, and on a replica after a full resynchronisation, even if the replica
    is promoted meanwhile. The file that a new server starts with is sound, although it has no base size either before
    its first rewrite: that is a primary that was never a replica, and was not configured since it started.
    """
    if not any(str(info.get(field)) == "1" for field in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")):
        return False
    if int(info.get("aof_base_size", 0)) > 0:
        return False
    was_promoted = int(info.get("second_repl_offset", -1)) != -1
    called = {key for key in info if key.startswith("cmdstat_")}
    # Before Redis 7.0 CONFIG SET and CONFIG GET have one counter; after a RESETSTAT the counters say nothing.
    return was_promoted or not called or bool(called & _CONFIGURING)


def _rewritten(config: Mapping[str, str] | None, info: Mapping[str, Any], *, can_rewrite: bool) -> Finding:
    """Check whether the append-only file can end in half a transaction, with all that is written since inside it.

    A crash amid a write can leave the beginning of a transaction. At the next start Redis drops the half command alone
    and goes on after it, so the next start drops what was acknowledged meanwhile, or does half of the transaction
    (valkey-io/valkey pull request 4342; Redis 7.0.15 does so). Redis shows no trace of it, so every file counts only
    once it was rewritten since Redis started: the new one is made of what Redis has in memory.
    """
    if config is not None and config.get("aof-load-truncated") == "no":
        return Finding(_REWRITTEN, ok=True, detail="not needed: Redis would not start with half a transaction")
    status = str(info.get("aof_last_bgrewrite_status", "ok"))
    if int(info.get("aof_last_rewrite_time_sec", 0)) != -1 and status == "ok":
        return Finding(_REWRITTEN, ok=True, detail="since Redis started")
    if status != "ok":
        # Refusing callbacks for as long as it fails would lose more than the rare crash amid a transaction.
        remedy = "see Redis's log: a rewrite needs memory and disk space"
        return Finding(_REWRITTEN, ok=True, detail=f"the last rewrite failed: {status}", remedy=remedy)
    return Finding(
        _REWRITTEN,
        ok=not can_rewrite,
        detail=_NOT_SINCE_START,
        remedy="run BGREWRITEAOF, or let the web process do so (its user needs +bgrewriteaof)",
    )


def _configure(*directives: str) -> str:
    """Return how to configure a running Redis so that a restart does not undo it."""
    return f"CONFIG SET {' and '.join(directives)}, then CONFIG REWRITE, or set it in redis.conf too"


def syncs_always(config: Mapping[str, str] | None) -> bool:
    """Return whether every write is synced before its reply.

    With no-appendfsync-on-rewrite Redis skips the fsync while a rewrite of the AOF or a snapshot runs.
    """
    return (
        config is not None
        and config.get("appendfsync") == "always"
        and config.get("no-appendfsync-on-rewrite") != "yes"
    )


def _fsync(config: Mapping[str, str] | None, *, can_wait: bool) -> Finding:
    if syncs_always(config):
        return Finding("appendfsync", ok=True, detail="always")
    if config is None:
        # Refusing everything would certainly lose callbacks, and INFO shows the rest: so it is assumed, with a warning.
        unseen, otherwise = "unknown, as CONFIG is forbidden here", "ask the provider whether it is always"
        if can_wait:
            return Finding(
                "appendfsync", ok=True, detail=f"{unseen}; {_EACH_WAITS}", remedy=f"{otherwise}; if not: {_ROLLED_BACK}"
            )
        return Finding(
            "appendfsync",
            ok=True,
            detail=unseen,
            remedy=f"{otherwise}; with everysec a crash can lose the callbacks of a second",
        )
    mode = str(config.get("appendfsync"))
    seen, remedy = mode, _configure("appendfsync always")
    if mode == "always":
        seen, remedy = "always, but not during a rewrite of the file", _configure("no-appendfsync-on-rewrite no")
    # With `no` Redis never syncs by itself, and no WAITAOF would ever return.
    if not can_wait or mode == "no":
        return Finding("appendfsync", ok=False, detail=seen, remedy=remedy)
    return Finding(
        "appendfsync", ok=True, detail=f"{seen}; {_EACH_WAITS}", remedy=f"{remedy}; until then {_ROLLED_BACK}"
    )


def _last_write(info: Mapping[str, Any]) -> Finding:
    status = str(info.get("aof_last_write_status", "unknown"))
    remedy = "" if status == "ok" else "the append-only file cannot be written: check its disk"
    return Finding("aof_last_write", ok=status == "ok", detail=status, remedy=remedy)


def _eviction(config: Mapping[str, str] | None, info: Mapping[str, Any]) -> Finding:
    policy = (info if config is None else {"maxmemory_policy": config.get("maxmemory-policy")}).get("maxmemory_policy")
    remedy = "" if policy == "noeviction" else _configure("maxmemory-policy noeviction")
    return Finding("maxmemory_policy", ok=policy == "noeviction", detail=str(policy), remedy=remedy)


def _memory(info: Mapping[str, Any]) -> Finding:
    found = memory.parse_info(info)
    if found.max_bytes == 0:
        return Finding("memory", ok=True, detail=f"{found.used_bytes} bytes used, no limit")
    # The rest is for the workers, whose writes make room: without any memory they would stop too.
    ok = found.share < memory.CALLBACKS_SHARE
    detail = f"{found.used_bytes} of {found.max_bytes} bytes used"
    if not ok:
        detail += f"; above {memory.CALLBACKS_SHARE:.0%} only the workers may write"
    return Finding(
        "memory", ok=ok, detail=detail, remedy="" if ok else "raise maxmemory, or wait until the workers catch up"
    )


def _replicas(info: Mapping[str, Any]) -> Finding:
    replicas = [info[key] for key in info if key.startswith("slave") and isinstance(info[key], Mapping)]
    online = sum(replica.get("state") == "online" for replica in replicas)
    remedy = "" if online else "connect a replica, or set CALLBACKS_DURABILITY=fsync"
    return Finding("replicas", ok=online > 0, detail=f"{online} online", remedy=remedy)


def _min_replicas(config: Mapping[str, str] | None) -> Finding:
    """Check whether a primary that was cut off, or hung, would accept writes that the new primary never gets.

    Commits wait for a replica, so no callback is lost. But what workers settle there is done again (measured: 3 to 204
    events twice in a failover after a primary hung, none with min-replicas-to-write).
    """
    least = "unknown" if config is None else str(config.get("min-replicas-to-write", "unknown"))
    remedy = _configure("min-replicas-to-write 1", "min-replicas-max-lag 2") if least in ("0", "unknown") else ""
    return Finding("min_replicas_to_write", ok=True, detail=least, remedy=remedy)
