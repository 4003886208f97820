"""A client whose commands also work while Redis is at its maxmemory: for RQ's own, which are few and small.

Without it no worker could start, pop a job, end one or sign off, and nothing would ever make room again. At its
maxmemory Redis refuses every transaction and every command that may need memory, but not a script that has begun to
write (see `allow_oom.lua`). So what is refused is sent again as a script.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.client import Pipeline

from workers.runtime import scripts

_COMMANDS: Final = scripts.load("allow_oom", "run_commands", "commands")
# A script cannot block like BLMOVE. How long an idle worker waits before it asks again, at the limit only.
_POLL_SECONDS: Final = 0.2


class OomFallbackRedis(redis.Redis):
    """Like redis.Redis, over the connections of `client`."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command. A script that is refused stays refused: each has to allow it itself."""
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
        """Return a pipeline whose transaction falls back in the same way."""
        return OomFallbackPipeline(self, transaction, shard_hint)

    def run_as_script(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands as one script, and return their replies."""
        words = [word for command in commands for word in (len(command), *command)]
        replies: list[Any] = self.eval(_COMMANDS, 0, *words)
        return replies


class OomFallbackPipeline(Pipeline):
    """A pipeline of an OomFallbackRedis."""

    def __init__(self, client: OomFallbackRedis, transaction: bool, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client
        self._is_transaction = transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands. At the limit, watched keys are not checked: nothing else changes the keys of a worker."""
        commands = [words for words, _ in self.command_stack]
        is_transaction = self._is_transaction or self.explicit_transaction
        try:
            return super().execute(raise_on_error)
        except (redis.OutOfMemoryError, redis.exceptions.ExecAbortError) as exc:
            # Without a transaction some commands may have worked, and a transaction may fail for another reason.
            is_for_memory = isinstance(exc, redis.OutOfMemoryError) or "OOM" in str(exc)
            if not is_transaction or not is_for_memory:
                raise
        return self._client.run_as_script(commands)
