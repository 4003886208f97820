"""The step that settles outcomes of one handler's events, and changes the handler's pause: one Lua script.

What is done cannot be undone, so the step waits while Redis is unavailable, and a second call after a lost answer
changes nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import redis
from msgspec import Struct

from shared import keys, queues, sealed_field
from workers.deliver import delivery_log
from workers.deliver.delivery_log import Attempts, LogLimit
from workers.deliver.pause_probe import NO_CHANGE, PauseChange
from workers.deliver.retries import ScheduledRetry
from workers.runtime import scripts
from workers.runtime.redis_retry import never_stopping, retry_while_unavailable
from workers.runtime.run_errors import StaleRun
from workers.runtime.settlement import (
    NewFailure,
    Settlement,
    append_list,
    dead_letter_counters,
    failure_arguments,
    flatten,
    settlement_arguments,
)


class SettleResult(Struct, frozen=True):
    """What a settlement found: whether the handler is paused now, and whether this settlement started or ended that.

    `seconds` is how long the pause that it started will last, or the pause that it ended has lasted.
    """

    is_paused: bool
    change: Literal["", "paused", "resumed"]
    seconds: float


class SettleStep:
    """The script, loaded over one connection. `is_stopping()` says whether the worker was asked to stop."""

    def __init__(
        self,
        connection: redis.Redis,
        *,
        is_stopping: Callable[[], bool] = never_stopping,
        log_limit: LogLimit | None = None,
    ) -> None:
        self._is_stopping = is_stopping
        self._log_limit = log_limit
        self._script = connection.register_script(
            scripts.load(
                "is_full",
                "allow_oom",
                "types",
                "arguments",
                "portions",
                "settlement",
                "clock",
                "pause_state",
                "deliver/delivery_log",
                "deliver/settle",
            )
        )

    def settle(
        self,
        *,
        run_id: str,
        handler: str,
        settlements: Iterable[Settlement],
        counts: Mapping[str, int],
        dead: Sequence[NewFailure],
        later: Sequence[ScheduledRetry],
        change: PauseChange = NO_CHANGE,
        attempts: Attempts | None = None,
    ) -> SettleResult:
        """Settle events of one handler, and change its pause.

        `counts`: what to add, by counter. `attempts`: what the delivery log gets.

        Raise StaleRun if another run has settled any of these items, and redis.RedisError.
        """
        arguments = settlement_arguments(run_id, settlements)
        append_list(arguments, list(counts.items()))
        append_list(
            arguments, [(*dead_letter_counters(handler, letter.kind), *failure_arguments(letter)) for letter in dead]
        )
        append_list(arguments, [(keys.job(j.job_id), j.job_id, j.due, *flatten(j.fields)) for j in later])
        reason = sealed_field.seal(keys.paused(handler), "reason", change.reason)
        arguments += (change.kind, math.ceil(change.after_seconds * 1000), reason, change.by, keys.PAUSE_KEPT_MS)
        log_bytes = 0 if self._log_limit is None else self._log_limit.read_bytes()
        texts = {} if attempts is None or not log_bytes else attempts.encode()
        arguments += delivery_log.step_arguments(texts, log_bytes=log_bytes)
        scheduled = keys.rq_scheduled(queues.delivery_queue(handler))
        key_names = [keys.COUNTS, keys.dead(handler), scheduled, keys.paused(handler), keys.DELIVERY_LOG]
        is_current, *found = retry_while_unavailable(
            lambda: self._script(keys=key_names, args=arguments), is_stopping=self._is_stopping
        )
        if not is_current:
            raise StaleRun
        is_paused, changed, ms = found
        return SettleResult(bool(is_paused), changed.decode(), ms / 1000)
