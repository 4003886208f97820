"""Pushes this process's metrics to Redis every two seconds and on shutdown, where they add up over all processes.

A thread with its own connection adds what has grown since the last push to one hash. No commit waits for it, and while
Redis is unavailable the growth waits too. A push whose response was lost is repeated under the same number, and Redis
adds it once, also to the rings (`shared.recent_rate`, `shared.recent_outcomes`). A killed process loses the metrics of
its last two seconds; a process that shuts down loses none unless Redis is unavailable then.

The alternative is prometheus-client's multiprocess files. They survive a kill, but work on one machine only, need a
folder shared with the ops process, which may run in another container, cost some microseconds per number, and leave a
file for each process that ever ran, to be read at every scrape.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import redis

from shared import connections, keys, last_times, recent_outcomes, recent_rate, ring_buffer
from shared.background import Background
from shared.last_times import LAST_ACCEPTED
from shared.metrics import MAX_UNKNOWN_STATUSES, OTHER, SEPARATOR, UNKNOWN_STATUS, Metrics
from shared.ring_buffer import RingBuffer

PUSH_SECONDS: Final = 2.0
# A process whose state is older has ended without notice, or cannot reach Redis.
STATE_SECONDS: Final = 15
# A shutdown waits at most this long, for a connection too.
_TIMEOUT_SECONDS: Final = 2.0
_LIFETIME_SECONDS: Final = keys.DAY_SECONDS
# Each ring, and what of a process's growth belongs in it.
_RINGS: Final[tuple[tuple[RingBuffer, Callable[[Mapping[str, int]], dict[str, int]]], ...]] = (
    (recent_rate.RING, recent_rate.select_growth),
    (recent_outcomes.RING, recent_outcomes.select_growth),
)

# KEYS  1 the metrics   2 processes that have a state, by time   3 the last push of this process   4 and on: the rings
# ARGV  1 name of the process   2 number of this push   3 lifetime in seconds   4 state, or ''
#       5 how many seconds ago this growth ended   6 how many seconds it took
#       7 "web" if this is a web process, or ''
#       8 how many times it sets, and their names (`shared.last_times`)
#       then for each ring: its slots, the seconds of a bucket, how many words follow, and these: name, growth; …
#       then the metrics: name, growth; …
# The time is the server's: the clocks of machines differ.
_PUSH_LUA: Final = f"""{ring_buffer.ADD_LUA}
local unknown = '{UNKNOWN_STATUS}{SEPARATOR}'
local other = unknown .. '{OTHER}'

local function has_prefix(name)
  return string.sub(name, 1, #unknown) == unknown
end

-- The sender chooses the names of unknown statuses, so in all processes together they are bounded.
local known
local function bounded(name)
  if not has_prefix(name) or name == other or redis.call('HEXISTS', KEYS[1], name) == 1 then return name end
  if not known then
    known = 0
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if has_prefix(field) and field ~= other then known = known + 1 end
    end
  end
  if known >= {MAX_UNKNOWN_STATUSES} then return other end
  known = known + 1
  return name
end

-- A push that comes late does not set a time back.
local function set_time(name, seconds)
  local before = tonumber(redis.call('HGET', KEYS[1], name) or 0)
  if seconds > before then redis.call('HSET', KEYS[1], name, string.format('%d', seconds)) end
end

local now = tonumber(redis.call('TIME')[1])
if redis.call('HGET', KEYS[3], 'number') ~= ARGV[2] then
  local ended, at = math.floor(now - ARGV[5]), 9
  for i = at, at + ARGV[8] - 1 do set_time(ARGV[i], ended) end
  if ARGV[7] == 'web' and not redis.call('HGET', KEYS[1], '{LAST_ACCEPTED}') then set_time('{LAST_ACCEPTED}', ended) end
  at = at + ARGV[8]
  for ring = 4, #KEYS do
    local first, words = at + 3, tonumber(ARGV[at + 2])
    local slots, length = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    add_to_ring(KEYS[ring], slots, length, now, tonumber(ARGV[5]), tonumber(ARGV[6]), first, first + words - 1)
    at = first + words
  end
  for i = at, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], bounded(ARGV[i]), ARGV[i + 1]) end
end
redis.call('HSET', KEYS[3], 'number', ARGV[2], 'state', ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[3])
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
"""


class MetricsPush:
    """Pushes `metrics` to the Redis at `url` while it runs, and `state()`, of which Redis keeps the last.

    The failing loops of `background` are part of the state.
    """

    def __init__(
        self,
        metrics: Metrics,
        url: str,
        *,
        state: Callable[[], Mapping[str, Any]] | None = None,
        background: Background | None = None,
    ) -> None:
        self._metrics = metrics
        self._state = state
        self._name = uuid.uuid4().hex
        self._client = connections.connect(url, timeout_seconds=_TIMEOUT_SECONDS)
        self._script = self._client.register_script(_PUSH_LUA)
        self._background = background or Background()
        self._pushed: dict[str, int] = {}
        self._has_state = False
        self._snapshot: dict[str, int] | None = None
        self._number = 0
        # When this snapshot was taken, and the last pushed one, by this process's monotonic clock.
        self._snapshot_at = self._pushed_until = time.monotonic()
        self._ending = threading.Event()
        self._loop = self._background.loop("metrics_push")
        self._thread = self._background.make_thread(
            "metrics_push", self._push_if_available, every_seconds=PUSH_SECONDS, ending=self._ending
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Push the rest once and stop. Nothing may be counted after this."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        has_unsent = self._snapshot is not None
        # A snapshot that failed earlier is pushed first, unchanged, then what has grown since.
        if self._push_last() and has_unsent:
            self._push_last()
        self._client.close()

    def push(self, *, is_last: bool = False) -> None:
        """Push what has grown. Raise redis.RedisError; the next call then pushes the same."""
        state = None if is_last else self._current_state()
        if self._snapshot is None:
            snapshot = self._metrics.snapshot()
            self._snapshot_at = time.monotonic()
            if snapshot == self._pushed and self._state is None and state is None and not self._has_state:
                self._pushed_until = self._snapshot_at
                return
            self._snapshot = snapshot
            self._number += 1
        growth = {
            name: number - self._pushed.get(name, 0)
            for name, number in self._snapshot.items()
            if number != self._pushed.get(name, 0)
        }
        self._script(
            keys=[keys.METRICS, keys.METRICS_PROCESSES, keys.metrics_of(self._name), *(one.key for one, _ in _RINGS)],
            args=[
                *(self._name, self._number, _LIFETIME_SECONDS, b"" if state is None else orjson.dumps(state)),
                *(time.monotonic() - self._snapshot_at, self._snapshot_at - self._pushed_until),
                "web" if state is not None and "state" in state else "",  # a worker's state is only what fails in it
                *_counted_list(last_times.names_of(growth)),
                *(word for one, select_growth in _RINGS for word in _ring_arguments(one, select_growth(growth))),
                *_flatten(growth),
            ],
        )
        self._pushed, self._snapshot, self._has_state = self._snapshot, None, state is not None
        self._pushed_until = self._snapshot_at

    def _current_state(self) -> dict[str, Any] | None:
        state = None if self._state is None else dict(self._state())
        failing = self._background.failing()
        if failing:
            state = {**(state or {}), "failing": failing, "process": f"{socket.gethostname()}:{os.getpid()}"}
        return state

    def _push_last(self) -> bool:
        pushed: list[bool] = []
        self._loop.attempt(lambda: pushed.append(self._push_if_available(is_last=True)))
        return pushed == [True]

    def _push_if_available(self, *, is_last: bool = False) -> bool:
        try:
            self.push(is_last=is_last)
        except (redis.RedisError, OSError):
            # Not logged: the code that commits callbacks logs that Redis is unavailable.
            return False
        return True


def _counted_list(words: Sequence[str | int]) -> list[str | int]:
    return [len(words), *words]


def _ring_arguments(of: RingBuffer, growth: Mapping[str, int]) -> list[str | int]:
    return [of.slots, of.bucket_seconds, *_counted_list(_flatten(growth))]


def _flatten(growth: Mapping[str, int]) -> list[str | int]:
    return [word for pair in growth.items() for word in pair]
