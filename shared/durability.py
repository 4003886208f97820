"""What Redis is asked of its durability, behind "a 200 means accepted", and what a commit must wait for.

`query` adds commands to a pipeline of redis.Redis or redis.asyncio.Redis. `evaluate` turns the replies into findings
(see `durability_findings`), `read_barrier` into what a commit must wait for. The web process does so every few seconds,
`callbacks check` once. Parameters are those of redis.conf, fields are those of INFO. Nothing here opens a connection or
logs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from shared import durability_findings
from shared.durability_findings import Finding
from shared.setting_values import Durability

CONFIG_PARAMETERS: Final = (
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "aof-load-truncated",
    "maxmemory-policy",
    "min-replicas-to-write",
)
INFO_SECTIONS: Final = ("server", "persistence", "replication", "memory", "commandstats")
# It waits for nothing, so it returns at once; with an error if the command is unknown or forbidden.
_WAITAOF_PROBE: Final = ("WAITAOF", 0, 0, 0)
# The first Valkey, and the first and the last Redis, whose WAITAOF does not wait: see `_can_wait`.
_VALKEY_ACKNOWLEDGES_EARLY: Final = (8,)
_REDIS_ACKNOWLEDGES_EARLY: Final = ((7, 4, 0), (7, 4, 2))


@dataclass(frozen=True, slots=True)
class Barrier:
    """What a commit waits for after its EXEC, in the same round trip.

    `synced`: until the server's own file is synced (WAITAOF, Redis 7.2), if `appendfsync always` does not ensure it
    before EXEC returns. `replicas`: until this many replicas have it too; with `synced`, in their synced files.
    """

    synced: bool = False
    replicas: int = 0


def query(pipe: Any) -> None:
    """Add the commands to `pipe`. Execute it with raise_on_error=False: CONFIG and WAITAOF may be forbidden.

    One CONFIG GET for each parameter, as Redis before 7.0 takes only one; never CONFIG GET *, which has passwords.
    """
    for parameter in CONFIG_PARAMETERS:
        pipe.config_get(parameter)
    for section in INFO_SECTIONS:
        pipe.info(section)
    pipe.execute_command(*_WAITAOF_PROBE)


def evaluate(level: Durability, replies: Sequence[Any], *, can_rewrite: bool = False) -> tuple[Finding, ...]:
    """Return the findings for `level` from the replies to `query`.

    `can_rewrite`: the caller asks for a rewrite of the append-only file where `needs_rewrite` says so. Without it a
    missing rewrite is only worth a warning.
    """
    sections = replies[len(CONFIG_PARAMETERS) : -1]
    refused = [reply for reply in sections if isinstance(reply, Exception)]
    if refused and level != "managed":
        return (durability_findings.unreachable(f"INFO was refused: {type(refused[0]).__name__}"),)
    info = _info(replies)
    return durability_findings.evaluate_config(
        level, _config(replies), info, can_wait=_can_wait(replies), can_rewrite=can_rewrite
    )


def read_barrier(level: Durability, replies: Sequence[Any]) -> Barrier:
    """Return, from the replies to `query`, what makes a commit as durable as `level`, if the findings allow commits."""
    return choose_barrier(level, _config(replies), can_wait=_can_wait(replies))


def choose_barrier(level: Durability, config: Mapping[str, str] | None, *, can_wait: bool) -> Barrier:
    """Return the cheapest barrier: with `always`, EXEC returns after its fsync, so no commit waits for the file.

    With `managed` the provider's promise holds for EXEC's reply, and WAITAOF may never return there.
    """
    if level in ("memory", "managed"):
        return Barrier()
    return Barrier(
        synced=can_wait and not durability_findings.syncs_always(config), replicas=1 if level == "replica" else 0
    )


def _config(replies: Sequence[Any]) -> dict[str, str] | None:
    configured = replies[: len(CONFIG_PARAMETERS)]
    if any(isinstance(reply, redis.RedisError) for reply in configured):
        return None
    return {key: value for reply in configured for key, value in reply.items()}


def _info(replies: Sequence[Any]) -> dict[str, Any]:
    sections = replies[len(CONFIG_PARAMETERS) : -1]
    return {key: value for reply in sections if not isinstance(reply, Exception) for key, value in reply.items()}


def _can_wait(replies: Sequence[Any]) -> bool:
    """Return whether the server has WAITAOF, and one that waits.

    With everysec some acknowledge what was written less than a second after the last fsync, before the next one: Redis
    7.4.0 to 7.4.2 (redis/redis pull request 13793), and Valkey since 8.0 (9.1.2 answered six commits within 0.1 s each
    and synced none of them).
    """
    if isinstance(replies[-1], Exception):
        return False
    info = _info(replies)
    if "valkey_version" in info:
        return _numbers(info["valkey_version"]) < _VALKEY_ACKNOWLEDGES_EARLY
    return not _REDIS_ACKNOWLEDGES_EARLY[0] <= _numbers(info.get("redis_version", "")) <= _REDIS_ACKNOWLEDGES_EARLY[1]


def _numbers(version: object) -> tuple[int, ...]:
    return tuple(int(part) for part in str(version).split(".")[:3] if part.isdecimal())
