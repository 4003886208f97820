"""Where events are at each handler now: a dead letter, waiting, running, to be tried later, or done with.

Told from Redis in bounded work: of a queue with more jobs, or larger ones, than can be looked through for one page a
part is looked at, and what is not found there is not known. Nothing is changed. A delivery leaves no mark of its own in
Redis, so "delivered" is said only where the counters leave nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, progress, queues
from workers.expand import subscriptions
from workers.failures import failure_list

Fate: TypeAlias = Literal["dead", "waiting", "running", "later", "delivered", "gone", "unknown"]

# Of each handler: more than waits for one that keeps up, and some 50 ms of work.
MOST_JOBS: Final = 300
MOST_BYTES: Final = 4 << 20
_MOST_HANDLERS: Final = 30


class AtHandler(Struct, frozen=True, kw_only=True):
    """Where the events are at one handler, by their ids.

    For those that are "gone": `unwanted` events were left out by its filters so far, `dropped` were dropped, and
    `since_ms` is from when on it was offered events without a break, None if that is not known.
    """

    handler: str
    fates: Mapping[str, Fate]
    filtered: int
    dropped: int
    since_ms: float | None


def look(connection: redis.Redis, event_ids: Mapping[str, int]) -> list[AtHandler]:
    """Tell where events are, by id, each with when it was received (ms since 1970). Raises redis.RedisError."""
    if not event_ids:
        return []
    client: Any = connection
    return [_at(client, handler, event_ids) for handler in failure_list.handlers(connection)[:_MOST_HANDLERS]]


def _at(client: Any, handler: str, event_ids: Mapping[str, int]) -> AtHandler:
    found, is_whole = _in_queue(client, handler, event_ids)
    # Asked last: what moves there from the queue meanwhile is found.
    with client.pipeline(transaction=False) as pipe:
        for event_id in event_ids:
            pipe.exists(keys.dead_letter(handler, event_id))
        for outcome in ("filtered", "dropped"):
            for kind in ("report", "reply"):
                pipe.hget(keys.COUNTS, keys.handler_counter(handler, kind, outcome))
        pipe.hget(keys.SUBSCRIPTIONS, handler)
        *told, text = pipe.execute()
    dead, numbers = told[: len(event_ids)], [int(number or 0) for number in told[len(event_ids) :]]
    filtered, dropped = sum(numbers[:2]), sum(numbers[2:])
    offered = None if text is None else subscriptions.parse(as_text(text))
    since_ms = None if offered is None or offered.is_pending or offered.is_unknown else offered.since_ms
    fates: dict[str, Fate] = {}
    for (event_id, received_ms), is_dead in zip(event_ids.items(), dead, strict=True):
        if is_dead:
            fates[event_id] = "dead"
        elif event_id in found:
            fates[event_id] = found[event_id]
        elif not is_whole:
            fates[event_id] = "unknown"
        else:
            is_certain = not filtered and not dropped and since_ms is not None and since_ms <= received_ms
            fates[event_id] = "delivered" if is_certain else "gone"
    return AtHandler(handler=handler, fates=fates, filtered=filtered, dropped=dropped, since_ms=since_ms)


def _in_queue(client: Any, handler: str, event_ids: Mapping[str, int]) -> tuple[dict[str, Fate], bool]:
    """Give the events that stand in a handler's queue, and whether all of it was looked through."""
    queue = queues.delivery_queue(handler)
    try:
        in_queue, popped, started, scheduled = _places(client, queue, at_once=True)
    except redis.OutOfMemoryError:
        # Then Redis takes no transaction, not even to read; what moves in this moment may be missed.
        in_queue, popped, started, scheduled = _places(client, queue, at_once=False)
    places: dict[str, Fate] = {}
    standing: tuple[tuple[Fate, list[bytes]], ...] = (
        ("waiting", [*in_queue, *popped]),
        ("later", scheduled),
        ("running", [member.partition(b":")[0] for member in started]),
    )
    for fate, members in standing:
        places |= dict.fromkeys(map(as_text, members), fate)
    with client.pipeline(transaction=False) as pipe:
        for job_id in places:
            pipe.lrange(keys.coalesced(job_id), 0, MOST_JOBS)
        taken = pipe.execute()
    for fate, along in zip(list(places.values()), taken, strict=True):
        places |= dict.fromkeys(map(as_text, along), fate)
    ids = _affordable(client, list(places)[: MOST_JOBS + 1])
    return _among(client, ids, places, event_ids), len(ids) == len(places) and len(places) <= MOST_JOBS


def _places(client: Any, queue: str, *, at_once: bool) -> list[list[bytes]]:
    with client.pipeline(transaction=at_once) as pipe:
        pipe.lrange(keys.rq_queue(queue), -MOST_JOBS - 1, -1)
        pipe.lrange(keys.rq_intermediate(queue), 0, MOST_JOBS)
        pipe.zrange(keys.rq_started(queue), 0, MOST_JOBS)
        pipe.zrange(keys.rq_scheduled(queue), 0, MOST_JOBS)
        found: list[list[bytes]] = pipe.execute()
    return found


def _affordable(client: Any, job_ids: Sequence[str]) -> list[str]:
    """Give as many of these jobs as can be read for one page."""
    with client.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hstrlen(keys.job(job_id), "data")
        sizes = pipe.execute()
    afforded: list[str] = []
    held = 0
    for job_id, size in zip(job_ids, sizes, strict=True):
        held += size
        if held <= MOST_BYTES:
            afforded.append(job_id)
    return afforded


def _among(
    client: Any, job_ids: Iterable[str], places: Mapping[str, Fate], event_ids: Mapping[str, int]
) -> dict[str, Fate]:
    found: dict[str, Fate] = {}
    for job_id in job_ids:
        data, settled = client.hmget(keys.job(job_id), "data", "progress")
        if data is None:
            continue  # done meanwhile
        try:
            *_, events = queues.parse_arguments(data)
            done = progress.parse(as_text(settled or progress.NOTHING))
        except (msgspec.MsgspecError, ValueError):
            continue  # a newer release's
        for place, (_, event_id, *_) in enumerate(events):
            if event_id in event_ids and place not in done:
                found[event_id] = places[job_id]
    return found
