"""A client whose commands are carried out while Redis is at its maxmemory too: for RQ's own, few and small.

Without it no worker could start, pop a job, end one or sign off there, and nothing would ever make room again. Redis
refuses there what may need memory, and every transaction; a script that has begun to write it does not stop (see
`allow_oom.lua`). So what is refused is sent again as a script.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.client import Pipeline

from workers.runtime import scripts

_COMMANDS: Final = scripts.load("allow_oom", "commands")
# A script cannot wait for a job as BLMOVE does. How long an idle worker rests before it asks again, at the limit only.
_POLL_SECONDS: Final = 0.2


class OomFallbackRedis(redis.Redis):
    """Like redis.Redis, over the connections of `client`."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Carry out a command. Scripts are refused as ever: each has to say for itself what it may do."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.OutOfMemoryError:
            if str(args[0]).startswith("EVAL"):
                raise
        if args[0] != "BLMOVE":
            return self.run_as_script([args])[0]
        (moved,) = self.run_as_script([("LMOVE", *args[1:-1])])
        if moved is None:
            time.sleep(min(float(args[-1]), _POLL_SECONDS))
        return moved

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "OomFallbackPipeline":
        """Return a pipeline whose transaction falls back likewise."""
        return OomFallbackPipeline(self, transaction, shard_hint)

    def run_as_script(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Carry out commands as one script, and return the replies as Redis gives them to it."""
        words = [word for command in commands for word in (len(command), *command)]
        replies: list[Any] = self.eval(_COMMANDS, 0, *words)
        return replies


class OomFallbackPipeline(Pipeline):
    """A pipeline of such a client."""

    def __init__(self, client: OomFallbackRedis, transaction: bool, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client
        self._is_transaction = transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Carry out what was collected. Keys that are watched are not, at the limit: nothing else changes ours."""
        commands = [words for words, _ in self.command_stack]
        is_transaction = self._is_transaction or self.explicit_transaction
        try:
            return super().execute(raise_on_error)
        except (redis.OutOfMemoryError, redis.exceptions.ExecAbortError) as exc:
            # Of other pipelines some may be carried out, and not every transaction is given up for want of memory.
            is_for_memory = isinstance(exc, redis.OutOfMemoryError) or "OOM" in str(exc)
            if not is_transaction or not is_for_memory:
                raise
        return self._client.run_as_script(commands)
