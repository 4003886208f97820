"""A process's figures, added up in Redis with those of all others, on all machines: every two seconds, and at its end.

Each process adds what has grown since the last time to one hash, from a thread and over a connection of its own, so no
commit waits for it, and a Redis that is away costs nothing: the figures wait, and are told when it is back. A telling
whose answer got lost is repeated under the same number, and Redis adds it once, to the last hour (`shared.recent_rate`)
too. A process that is killed takes what it counted in its last two seconds with it, figures only; a gentle end loses
nothing unless Redis is away just then.

prometheus-client's multiprocess files were the other way. They survive a kill, but know one machine only, need a
folder shared with the ops process, which may be in another container, cost some microseconds for each number, and
leave a file behind for each process that ever ran, to be read at every scrape.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
import redis

from shared import connections, keys, recent_rate
from shared.background import Background
from shared.metrics import Metrics

PUSH_SECONDS: Final = 2.0
# Beyond this age a process's state is no longer believed: it has ended without a word, or cannot reach Redis.
STATE_SECONDS: Final = 15
# The end of a process waits for this, and for a connection, at most.
_TIMEOUT_SECONDS: Final = 2.0
_LIFETIME_SECONDS: Final = keys.DAY_SECONDS

# KEYS  1 the figures   2 processes that have a state, by time   3 what this process told last   4 the last hour
# ARGV  1 name of the process   2 number of this telling   3 lifetime in seconds   4 state, or ''
#       5 how many seconds ago this growth ended   6 how many seconds it took   7 how many words of it the last hour has
#       then those words: name, growth; then figure, growth
# The time is the server's: those of machines differ.
_PUSH_LUA: Final = f"""{recent_rate.ADD_LUA}
local now = tonumber(redis.call('TIME')[1])
if redis.call('HGET', KEYS[3], 'number') ~= ARGV[2] then
  local words = tonumber(ARGV[7])
  add_to_recent_rate(KEYS[4], now, tonumber(ARGV[5]), tonumber(ARGV[6]), 8, 7 + words)
  for i = 8 + words, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
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
    """Tells `figures` to the Redis at `url` while it runs; and `state()`, of which only the last counts.

    What of `background` keeps failing belongs to the state; a process that has none else then has one.
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
        # When the snapshot was taken, and the one before that was told: by this process's clock, for what lies between.
        self._snapshot_at = self._pushed_until = time.monotonic()
        self._ending = threading.Event()
        self._loop = self._background.loop("metrics_push")
        self._thread = self._background.make_thread(
            "metrics_push", self._push_if_available, every_seconds=PUSH_SECONDS, ending=self._ending
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Tell the rest, once, and end. Nothing is to be counted any more."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        has_unsent = self._snapshot is not None
        # What an earlier failure held back goes first, as it was, and what has grown since after it.
        if self._push_last() and has_unsent:
            self._push_last()
        self._client.close()

    def push(self, *, is_last: bool = False) -> None:
        """Tell what has grown. Raises redis.RedisError, and then the same is told the next time."""
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
        recent = _flatten(recent_rate.select_growth(growth))
        self._script(
            keys=[keys.METRICS, keys.METRICS_PROCESSES, keys.metrics_of(self._name), keys.RECENT_RATE],
            args=[
                *(self._name, self._number, _LIFETIME_SECONDS, b"" if state is None else orjson.dumps(state)),
                *(time.monotonic() - self._snapshot_at, self._snapshot_at - self._pushed_until),
                *(len(recent), *recent, *_flatten(growth)),
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
            # No line of ours: whoever keeps callbacks says so where it matters.
            return False
        return True


def _flatten(growth: Mapping[str, int]) -> list[str | int]:
    return [word for pair in growth.items() for word in pair]
