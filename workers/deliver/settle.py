"""The outcomes of events at one handler are settled: counted, dead letters added, retries scheduled, its pause changed.

One Lua script does all of it; this module knows the order of its arguments. What is done cannot be undone, so the step
waits while Redis is unavailable, and a second call after a lost answer changes nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import redis
from msgspec import Struct

from shared import keys, queues
from workers.runtime import scripts
from workers.runtime.redis_retry import never_stopping, retry_while_unavailable
from workers.runtime.run_errors import StaleRun
from workers.runtime.settlement import (
    Argument,
    NewFailure,
    Settlement,
    append_list,
    dead_letter_counters,
    failure_arguments,
    flatten,
    settlement_arguments,
)

_PAUSE_KEPT_MS: Final = keys.PAUSE_KEPT_SECONDS * 1000


class ScheduledRetry(Struct, frozen=True):
    """A job that is to run later: its id, when (unix time in seconds), and the fields of its hash."""

    job_id: str
    due: float
    fields: Mapping[str, Argument]


class PauseChange(Struct, frozen=True):
    """What a settlement says of its handler's pause (see `settle.lua`); the kind "" is nothing.

    "paused": the handler asked for `after_seconds`, or, by "memory", Redis has no room for its failures. "resumed" and
    "failed" are the outcome of the probe; "untried": the probe's event was not called.
    """

    kind: Literal["", "paused", "resumed", "failed", "untried"] = ""
    after_seconds: float = 0.0
    reason: str = ""
    by: Literal["handler", "memory"] = "handler"


NO_CHANGE: Final = PauseChange()


class SettleResult(Struct, frozen=True):
    """What a settlement found: whether the handler is paused now, and whether this settlement began or ended that.

    `seconds` is how long the pause lasts that it began, or lasted that it ended.
    """

    is_paused: bool
    change: Literal["", "paused", "resumed"]
    seconds: float


class SettleStep:
    """The script, loaded over one connection. `is_stopping()` says whether the worker was asked to stop."""

    def __init__(self, connection: redis.Redis, *, is_stopping: Callable[[], bool] = never_stopping) -> None:
        self._is_stopping = is_stopping
        self._script = connection.register_script(
            scripts.load("allow_oom", "types", "arguments", "settlement", "clock", "pause_state", "deliver/settle")
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
    ) -> SettleResult:
        """Write down what became of deliveries, and what that changes of the handler's pause.

        `counts`: what to add, by counter. Raise StaleRun if another run has settled any of these items, and
        redis.RedisError.
        """
        arguments = settlement_arguments(run_id, settlements)
        append_list(arguments, list(counts.items()))
        append_list(
            arguments, [(*dead_letter_counters(handler, letter.kind), *failure_arguments(letter)) for letter in dead]
        )
        append_list(arguments, [(keys.job(j.job_id), j.job_id, j.due, *flatten(j.fields)) for j in later])
        arguments += (change.kind, math.ceil(change.after_seconds * 1000), change.reason, change.by, _PAUSE_KEPT_MS)
        scheduled = keys.rq_scheduled(queues.delivery_queue(handler))
        key_names = [keys.COUNTS, keys.dead(handler), scheduled, keys.paused(handler)]
        is_current, *found = retry_while_unavailable(
            lambda: self._script(keys=key_names, args=arguments), is_stopping=self._is_stopping
        )
        if not is_current:
            raise StaleRun
        is_paused, changed, ms = found
        return SettleResult(bool(is_paused), changed.decode(), ms / 1000)
