"""A handler's pause, as operators and the command line read it and change it.

A handler pauses its queue by Pause; the pause lasts until one event succeeds. An operator's pause lasts until `resume`.
Workers check for a pause when they claim jobs (`claim.lua`), and set or end one when they settle
(`workers/deliver/settle.lua`). All times are Redis's own.

    cb:paused:<handler>    by         "handler", "operator", or "memory": see `headroom`
                           since_ms   when it began
                           until_ms   when the next event is tried; while one is, when another may be
                           after_ms   how long it continues if that fails
                           times      how often it was asked for: first, and by each probe that failed
                           probe      the hash of the job that is trying one event now
                           reason     the handler's, truncated; sealed if there are keys

The key lives until PAUSE_KEPT_SECONDS after `until_ms`; an operator's pause has no lifetime.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, sealed_field
from shared.stored_times import stored_ms, stored_time
from workers.runtime import scripts

PausedBy: TypeAlias = Literal["handler", "operator", "memory"]

_PAUSE_LUA: Final = scripts.load("clock", "pause")
_END_MEMORY_PAUSE_LUA: Final = scripts.load("end_memory_pause")


class PauseState(Struct, frozen=True, kw_only=True):
    """Why a handler gets no events. `until` is when the next event is tried; None for an operator's pause.

    `seconds_left` is the time until then: 0 if it is over and no event has come yet, infinite for an operator's.
    """

    by: PausedBy
    since: datetime
    until: datetime | None
    seconds_left: float
    reason: str
    times: int
    is_probing: bool


def read_state(connection: redis.Redis, handler: str) -> PauseState | None:
    """Return how a handler is paused; None if it is not. Raise redis.RedisError."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hgetall(keys.paused(handler))
        (seconds, microseconds), found = pipe.execute()
    return parse_state(handler, found, now_seconds=seconds + microseconds / 1_000_000)


def parse_state(handler: str, found: Mapping[bytes, bytes], *, now_seconds: float) -> PauseState | None:
    """Return the pause that the hash of a handler says, at the time `now_seconds` of Redis; None if it is empty."""
    reason = sealed_field.unseal(keys.paused(handler), "reason", found.get(b"reason", b""))
    fields = {as_text(name): as_text(value) for name, value in found.items() if name != b"reason"}
    if "by" not in fields:
        return None
    until_ms = stored_ms(fields.get("until_ms", 0))
    by: PausedBy = next((by for by in get_args(PausedBy) if by == fields["by"]), "handler")
    is_operators = by == "operator"
    left_ms = until_ms - int(now_seconds * 1000)
    return PauseState(
        by=by,
        since=stored_time(fields.get("since_ms", 0)),
        until=None if is_operators else stored_time(until_ms),
        seconds_left=math.inf if is_operators else max(left_ms, 0) / 1000,
        reason=reason.decode(errors="replace"),
        times=int(fields.get("times", 0)),
        is_probing="probe" in fields,
    )


def seconds_left(connection: redis.Redis, handler: str) -> float:
    """Return for how many seconds no job may be claimed for a handler, at least. Raise redis.RedisError."""
    pausing = read_state(connection, handler)
    return 0.0 if pausing is None else pausing.seconds_left


def pause(connection: redis.Redis, handler: str) -> None:
    """Pause a handler until `resume`: new events wait in its queue. Raise redis.RedisError.

    Workers notice at their next settlement, so within a call or two; calls in progress finish.
    """
    client: Any = connection
    client.eval(_PAUSE_LUA, 1, keys.paused(handler))


def resume(connection: redis.Redis, handler: str) -> bool:
    """End any pause of a handler, without a probe; return whether there was one. Raise redis.RedisError."""
    return bool(connection.delete(keys.paused(handler)))


def end_memory_pause(connection: redis.Redis, handler: str) -> bool:
    """End a handler's pause if lack of memory caused it; return whether it did. Raise redis.RedisError."""
    client: Any = connection
    return bool(client.eval(_END_MEMORY_PAUSE_LUA, 1, keys.paused(handler)))
