"""What became of replayed dead letters: how many were delivered, are dead again, or still wait.

An action keeps the ids of the events that it put back into the queue, 12 bytes each, for a day. The delivery log says
what became of each since the action began. Without the log only those that are dead again are counted.
"""

import contextlib
from collections.abc import Iterable
from typing import Any, Final

import redis
from msgspec import Struct

from shared import keys
from shared.counted import counted
from shared.events import to_unix_ms
from workers.admin import delivery_history
from workers.admin.action_log import LoggedAction
from workers.failures.failure_list import dead_letters_of

# About a megabyte of ids.
MAX_IDS: Final = 100_000
_ID_BYTES: Final = 12
_IDS_PER_READ: Final = 1000


class ReplayOutcome(Struct, frozen=True, kw_only=True):
    """What became of `put_back` events. `waiting` includes those `retrying`, which failed and wait for another attempt.

    `delivered` is None if there is no delivery log: then `waiting` counts delivered events too. `is_cut`: more events
    were put back than are counted.
    """

    put_back: int
    delivered: int | None
    dead: int
    waiting: int
    retrying: int = 0
    is_cut: bool = False

    @property
    def text(self) -> str:
        """The outcome in words."""
        of = f"of the first {self.put_back:,}" if self.is_cut else f"{self.put_back:,} put back"
        if self.delivered is None:
            return f"{of}; dead again {self.dead:,}, delivered or still waiting {self.waiting:,} (no delivery log)"
        retrying = f" ({counted(self.retrying, 'retry', 'retries')} scheduled)" if self.retrying else ""
        return f"{of}; delivered {self.delivered:,}, dead again {self.dead:,}, still waiting {self.waiting:,}{retrying}"


def record_replayed(connection: redis.Redis, action_id: str, event_ids: Iterable[str]) -> None:
    """Add to the events that an action has put back. Raise redis.RedisError."""
    encoded = b"".join(bytes.fromhex(event_id) for event_id in event_ids if len(event_id) == 2 * _ID_BYTES)
    if not encoded or not action_id:
        return
    client: Any = connection
    key = keys.action_replayed(action_id)
    # While Redis is full the replay is worth more than what is known of it.
    with contextlib.suppress(redis.OutOfMemoryError), client.pipeline() as pipe:
        pipe.rpush(key, encoded)
        pipe.expire(key, keys.DAY_SECONDS)
        pipe.execute()


def read_outcome(connection: redis.Redis, action: LoggedAction) -> ReplayOutcome | None:
    """Return what became of the dead letters that an action has replayed; None if that is not kept, or no longer.

    Raise redis.RedisError.
    """
    kind, _, handler = action.where.partition(":")
    if kind != "dead" or action.what != "replay":
        return None
    client: Any = connection
    encoded = b"".join(client.lrange(keys.action_replayed(action.action_id), 0, -1))
    if not encoded:
        return None
    all_ids = list(dict.fromkeys(encoded[at : at + _ID_BYTES].hex() for at in range(0, len(encoded), _ID_BYTES)))
    ids = all_ids[:MAX_IDS]
    dead = _find_dead(client, handler, ids)
    started_ms = to_unix_ms(action.started_at)
    history = delivery_history.read_history(connection, dict.fromkeys(ids, started_ms))
    delivered = retrying = 0
    for event_id in ids:
        attempts = history.attempts.get((event_id, handler), [])
        last = attempts[-1] if attempts and attempts[-1].at >= action.started_at else None
        if last is not None and event_id not in dead:
            delivered += last.result == "delivered"
            retrying += last.result == "retry"
    has_log = history.since is not None
    return ReplayOutcome(
        put_back=len(ids),
        delivered=delivered if has_log else None,
        dead=len(dead),
        waiting=len(ids) - len(dead) - delivered,
        retrying=retrying,
        is_cut=len(all_ids) > len(ids),
    )


def _find_dead(client: Any, handler: str, event_ids: list[str]) -> frozenset[str]:
    index = dead_letters_of(handler).index
    dead: set[str] = set()
    for first in range(0, len(event_ids), _IDS_PER_READ):
        part = event_ids[first : first + _IDS_PER_READ]
        dead.update(
            event_id for event_id, score in zip(part, client.zmscore(index, part), strict=True) if score is not None
        )
    return frozenset(dead)
