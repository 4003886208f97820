"""Redis's own files: what was erased stays in the append-only file and in dumps until Redis writes them anew.

A rewrite that was under way before the erasure may hold what was erased. So one counts that began afterwards. In memory
Redis keeps the arguments of slow commands, which may be events, in its slow log.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis

from shared import connections
from workers.personal_data.report import StoreResult

# A rewrite of some GiB takes a minute.
_WAIT_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.2


class FileNotRewritten(Exception):
    """Redis did not write a file anew; the text says why."""


class RedisFiles:
    """The append-only file and the dump of one Redis."""

    name = "redis-files"

    def __init__(self, connection: redis.Redis, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._connection: Any = connection
        self._wait_seconds = wait_seconds

    def rewrite(self) -> StoreResult:
        """Have Redis empty its slow log and write its files anew, and wait until they are on disk."""
        rewritten: list[str] = []
        try:
            self._empty_slow_log()
            info = self._info()
            if int(info.get("aof_enabled", 0)):
                self._rewrite("BGREWRITEAOF", "aof_last_bgrewrite_status")
                rewritten.append("append-only file")
            if self._writes_dumps():
                self._rewrite("BGSAVE", "rdb_last_bgsave_status")
                rewritten.append("dump")
        except (FileNotRewritten, redis.RedisError) as exc:
            why = str(exc) if isinstance(exc, FileNotRewritten) else connections.describe_error(exc)
            return StoreResult(
                store=self.name, why=f"not written anew: {why}: until Redis does so, they hold it", failed=True
            )
        why = f"written anew: {', '.join(rewritten)}" if rewritten else "Redis writes none"
        return StoreResult(store=self.name, why=why)

    def _empty_slow_log(self) -> None:
        try:
            self._connection.slowlog_reset()
        except redis.exceptions.NoPermissionError:
            raise
        except redis.ResponseError:
            return  # a provider's Redis that has none

    def _writes_dumps(self) -> bool:
        try:
            return bool(self._connection.config_get("save").get("save"))
        except redis.RedisError:
            return False  # not permitted: so nothing can be known of dumps, which are the provider's

    def _rewrite(self, command: str, status: str) -> None:
        deadline = time.monotonic() + self._wait_seconds
        # One that is under way began before; and only one child process writes at a time.
        self._wait(lambda info: not _is_writing(info), deadline)
        while True:
            try:
                self._connection.execute_command(command)
                break
            except redis.ResponseError as exc:
                # Another has begun one just now.
                if "progress" not in str(exc).lower() or time.monotonic() >= deadline:
                    raise
                self._wait(lambda info: not _is_writing(info), deadline)
        info = self._wait(lambda info: not (_is_writing(info) or int(info.get("aof_rewrite_scheduled", 0))), deadline)
        if str(info.get(status, "ok")) != "ok":
            raise FileNotRewritten(f"{command} failed, see Redis's log")

    def _wait(self, is_over: Callable[[Mapping[str, Any]], bool], deadline: float) -> Mapping[str, Any]:
        while not is_over(info := self._info()):
            if time.monotonic() >= deadline:
                raise FileNotRewritten(f"Redis took longer than {self._wait_seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
        return info

    def _info(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._connection.info("persistence")
        return found


def _is_writing(info: Mapping[str, Any]) -> bool:
    return bool(int(info.get("aof_rewrite_in_progress", 0)) or int(info.get("rdb_bgsave_in_progress", 0)))
