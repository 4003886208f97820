"""The history of events: every attempt to deliver them, as the delivery log has it, and how far back the log goes.

The chunks of the log are read one after the other and searched here, so that Redis does not search; those that are
older than the events are not read. At most CALLBACKS_DELIVERY_LOG_BYTES are read for one look-up.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import redis
from msgspec import Struct

from shared import keys
from shared.stored_times import stored_time
from workers.deliver import delivery_log
from workers.deliver.delivery_log import HEAD_BYTES, RINGS, AttemptResult, FoundAttempt

# An attempt may end before the event was received, by the clocks of two hosts.
_CLOCK_SKEW_MS: Final = 60_000


class DeliveryAttempt(Struct, frozen=True, kw_only=True):
    """One attempt to deliver an event to a handler, of `attempts` that it has.

    `call_ms` is how long the handler's call took, None without one; `error` what it raised or said, `answer` what the
    target answered that took the event, both masked; `next_at` when the next attempt was due.
    """

    handler: str
    at: datetime
    result: AttemptResult
    attempt: int
    attempts: int
    call_ms: int | None
    error: str = ""
    answer: str = ""
    next_at: datetime | None = None


class DeliveryHistory(Struct, frozen=True, kw_only=True):
    """The attempts at events, by the event's id and handler, oldest first.

    The log has every attempt `since` then; None if there is no log.
    """

    attempts: Mapping[tuple[str, str], list[DeliveryAttempt]]
    since: datetime | None

    def covers(self, received_ms: int) -> bool:
        """Return whether the log has every attempt at an event that was received then."""
        return self.since is not None and self.since <= stored_time(received_ms)


class _LogChunk(Struct, frozen=True):
    name: str
    starts_ms: int
    ends_ms: int | None
    is_first: bool


def read_history(connection: redis.Redis, event_ids: Mapping[str, int]) -> DeliveryHistory:
    """Return the history of events; `event_ids` says when each was received, in ms since 1970.

    Raise redis.RedisError.
    """
    client: Any = connection
    newest, since_ms = _read_numbers(client)
    chunks = [chunk for ring in RINGS for chunk in _list_chunks(client, ring, newest[ring])]
    id_of_key = {delivery_log.event_key(event_id): event_id for event_id in event_ids}
    oldest_ms = min(event_ids.values(), default=0) - _CLOCK_SKEW_MS
    attempts: defaultdict[tuple[str, str], list[DeliveryAttempt]] = defaultdict(list)
    for chunk in chunks:
        if id_of_key and (chunk.ends_ms is None or chunk.ends_ms >= oldest_ms):
            for found in delivery_log.find_attempts(client.get(chunk.name) or b"", id_of_key):
                attempts[id_of_key[found.key], found.entry.handler].append(_attempt(found))
    for each in attempts.values():
        each.sort(key=lambda attempt: attempt.at)
    return DeliveryHistory(attempts=attempts, since=_since(chunks, since_ms))


def read_attempts(
    connection: redis.Redis, event_id: str, handler: str, *, received_ms: int = 0
) -> list[DeliveryAttempt]:
    """Return the attempts at an event at one handler, oldest first, as far back as the log goes.

    `received_ms`: when the event was received, if that is known. Raise redis.RedisError.
    """
    return read_history(connection, {event_id: received_ms}).attempts.get((event_id, handler), [])


def _read_numbers(client: Any) -> tuple[dict[delivery_log.Ring, int], int]:
    """Return the number of each ring's newest chunk, and since when there is a log; 0 for what cannot be read."""
    try:
        found = client.hmget(keys.DELIVERY_LOG, *RINGS, "since_ms")
    except redis.ResponseError:  # a key of another type
        found = []
    *newest, since_ms = [delivery_log.stored_number(value or b"") for value in found] or [0] * (len(RINGS) + 1)
    return dict(zip(RINGS, newest, strict=True)), since_ms


def _list_chunks(client: Any, ring: delivery_log.Ring, newest: int) -> Iterator[_LogChunk]:
    """Yield the chunks of a ring that exist, the newest first."""
    names = delivery_log.chunk_names(ring, newest)
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.getrange(name, 0, HEAD_BYTES - 1)
        heads = pipe.execute(raise_on_error=False)
    ends_ms: int | None = None
    for name, head in zip(names, heads, strict=True):
        if isinstance(head, bytes) and len(head) == HEAD_BYTES:
            _, starts_ms = delivery_log.read_head(head)
            yield _LogChunk(name, starts_ms, ends_ms, is_first=name.endswith(":1"))
            # Attempts that end with a second are written within a moment, or while Redis is unavailable, later.
            ends_ms = starts_ms + _CLOCK_SKEW_MS


def _since(chunks: list[_LogChunk], since_ms: int) -> datetime | None:
    """Return since when nothing is missing: since the log began, unless a ring has lost its oldest chunk."""
    if not since_ms:
        return None
    oldest = {chunk.name.rpartition(":")[0]: chunk for chunk in chunks}
    lost = [chunk.starts_ms for chunk in oldest.values() if not chunk.is_first]
    # Redis deletes each chunk a month after it was begun.
    expired_ms = (time.time() - delivery_log.KEPT_SECONDS) * 1000
    return stored_time(max(*lost, expired_ms, since_ms))


def _attempt(found: FoundAttempt) -> DeliveryAttempt:
    entry = found.entry
    is_retry = found.position < len(entry.after_ms)
    return DeliveryAttempt(
        handler=entry.handler,
        at=stored_time(found.at_ms),
        result=entry.result,
        attempt=entry.attempt,
        attempts=entry.attempts,
        call_ms=entry.call_ms_of(found.position),
        error="" if entry.result == "delivered" else entry.plain_text,
        answer=entry.plain_text if entry.result == "delivered" else "",
        next_at=stored_time(found.at_ms + entry.after_ms[found.position]) if is_retry else None,
    )
