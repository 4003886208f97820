"""The settings of Redis."""

from dataclasses import dataclass
from typing import ClassVar

from shared.cells import Cell, parse_cells
from shared.seal_keys import SealKey, parse_seal_keys
from shared.setting_groups.setting import setting
from shared.setting_values import Durability, integer, one_of, parse_redis_url, zero_or


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where Redis is, what it promises, and how much is kept there."""

    title: ClassVar = "Redis"

    redis_url: str = setting(
        "REDIS_URL",
        None,
        parse_redis_url,
        "URL of Redis: redis://, rediss://, valkey://, valkeys://, unix://, or "
        "redis+sentinel://host:port,host:port/service/db",
        shown_default="none; `callbacks dev` and `demo` run their own",
        from_file=True,
    )
    cells: tuple[Cell, ...] = setting(
        "CALLBACKS_CELLS",
        "",
        parse_cells,
        "cells that `callbacks ops`, `audit` and `top` show together: `name=redis-url,…`, each URL as in `REDIS_URL`",
        shown_default="none: one Redis, that of `REDIS_URL`",
        from_file=True,
        read_by=("ops", "cells"),
    )
    durability: Durability = setting(
        "CALLBACKS_DURABILITY",
        "fsync",
        one_of("fsync", "replica", "memory", "managed"),
        "where a callback is stored before the 200: `fsync` (on disk), `replica` (also on a replica), `memory`, or "
        "`managed` (what the provider of Redis promises, unchecked)",
        read_by=("web", "ops", "cells"),
    )
    dedupe_seconds: int = setting(
        "CALLBACKS_DEDUPE_SECONDS",
        "86400",
        integer(1, 366 * 86400),
        "seconds for which an event is remembered at least (at most half as long again), to recognise repetitions",
        read_by=("expand",),
    )
    quarantine_max_bytes: int = setting(
        "CALLBACKS_QUARANTINE_MAX_BYTES",
        str(256 << 20),
        integer(1 << 20, 10**15 - 1),
        "maximum size of the quarantine in Redis; beyond it the oldest entries are dropped",
        read_by=("expand", "deliver"),
    )
    dead_letter_max_bytes: int = setting(
        "CALLBACKS_DEAD_LETTER_MAX_BYTES",
        str(256 << 20),
        integer(1 << 20, 10**15 - 1),
        "maximum size of the dead letters of each handler in Redis; beyond it the oldest are dropped",
        read_by=("expand", "deliver"),
    )
    delivery_log_bytes: int = setting(
        "CALLBACKS_DELIVERY_LOG_BYTES",
        str(64 << 20),
        zero_or(1 << 20, 10**15 - 1),
        "maximum size of the delivery log in Redis: each attempt; at most 1 % of its maxmemory; 0: none",
        read_by=("deliver",),
    )
    seal_keys: tuple[SealKey, ...] = setting(
        "CALLBACKS_SEAL_KEYS_FILE",
        "",
        parse_seal_keys,
        "file with the keys that seal what waits in Redis and in the spool, one a line: the first seals, each opens",
        shown_default="none: nothing is sealed",
        read_by=("web", "expand", "deliver", "ops", "command"),
    )
