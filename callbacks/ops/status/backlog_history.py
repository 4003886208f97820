"""How many events waited for all handlers together in the last hour, for the chart of the page *Now*.

It is kept in this process alone, which reads one small hash of Redis every ten seconds: after a restart the line begins
anew. While Redis is unavailable there is a gap.
"""

import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import redis
from rq.utils import as_text

from shared import audit, keys
from shared.background import Background
from shared.recent_rate import BUCKET_SECONDS, SHOWN_BUCKETS

# By the outcome in the name of a handler's counter (`shared.keys.handler_counter`).
_SIGNS: Final = {"queued": 1} | dict.fromkeys(audit.SETTLED_OUTCOMES, -1)


class BacklogHistory:
    """Reads the number over `client` while it runs. Any thread may read the history."""

    def __init__(self, client: redis.Redis, background: Background) -> None:
        self._client = client
        self._samples: deque[tuple[int, int]] = deque(maxlen=SHOWN_BUCKETS + 6)
        self._ending = threading.Event()
        self._thread = background.make_thread(
            "backlog_history", self.sample, every_seconds=BUCKET_SECONDS, ending=self._ending
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Let the thread end. It may still read once."""
        self._ending.set()

    def sample(self) -> None:
        """Read the number now, if Redis answers."""
        with suppress(redis.RedisError):
            with self._client.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hgetall(keys.COUNTS)
                (seconds, _), counts = pipe.execute()
            bucket = seconds // BUCKET_SECONDS * BUCKET_SECONDS
            self._samples.append((bucket, events_waiting(counts)))

    def by_bucket(self) -> dict[int, int]:
        """Return how many events waited, by the start of the ten seconds in which that was read, in Unix seconds."""
        return dict(self._samples.copy())


def events_waiting(counts: Mapping[bytes, bytes]) -> int:
    """Return how many events wait for all handlers, retries included, by the counters of Redis."""
    found = 0
    for name, number in counts.items():
        counter, _, handler = as_text(name).partition(":")
        if handler:
            found += _SIGNS.get(counter.rpartition(".")[2], 0) * int(number)
    return found
