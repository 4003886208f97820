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

EventStatus: TypeAlias = Literal["dead", "waiting", "running", "scheduled", "delivered", "gone", "unknown"]

# Of each handler: more than waits for one that keeps up, and some 50 ms of work.
MAX_JOBS: Final = 300
MAX_BYTES: Final = 4 << 20
_MAX_HANDLERS: Final = 30


class HandlerEventStatuses(Struct, frozen=True, kw_only=True):
    """Where the events are at one handler, by their ids.

    For those that are "gone": `unwanted` events were left out by its filters so far, `dropped` were dropped, and
    `since_ms` is from when on it was offered events without a break, None if that is not known.
    """

    handler: str
    statuses: Mapping[str, EventStatus]
    filtered: int
    dropped: int
    since_ms: float | None


def find_statuses(connection: redis.Redis, event_ids: Mapping[str, int]) -> list[HandlerEventStatuses]:
    """Tell where events are, by id, each with when it was received (ms since 1970). Raises redis.RedisError."""
    if not event_ids:
        return []
    client: Any = connection
    return [
        _find_at_handler(client, handler, event_ids)
        for handler in failure_list.handler_names(connection)[:_MAX_HANDLERS]
    ]


def _find_at_handler(client: Any, handler: str, event_ids: Mapping[str, int]) -> HandlerEventStatuses:
    found, is_whole = _scan_queue(client, handler, event_ids)
    # Asked last: what moves there from the queue meanwhile is found.
    with client.pipeline(transaction=False) as pipe:
        for event_id in event_ids:
            pipe.exists(keys.dead_letter(handler, event_id))
        for outcome in ("filtered", "dropped"):
            for kind in ("report", "reply"):
                pipe.hget(keys.COUNTS, keys.handler_counter(handler, kind, outcome))
        pipe.hget(keys.SUBSCRIPTIONS, handler)
        *reply, text = pipe.execute()
    dead, numbers = reply[: len(event_ids)], [int(number or 0) for number in reply[len(event_ids) :]]
    filtered, dropped = sum(numbers[:2]), sum(numbers[2:])
    subscription = None if text is None else subscriptions.parse(as_text(text))
    since_ms = (
        None if subscription is None or subscription.is_pending or subscription.is_unknown else subscription.since_ms
    )
    statuses: dict[str, EventStatus] = {}
    for (event_id, received_ms), is_dead in zip(event_ids.items(), dead, strict=True):
        if is_dead:
            statuses[event_id] = "dead"
        elif event_id in found:
            statuses[event_id] = found[event_id]
        elif not is_whole:
            statuses[event_id] = "unknown"
        else:
            is_certain = not filtered and not dropped and since_ms is not None and since_ms <= received_ms
            statuses[event_id] = "delivered" if is_certain else "gone"
    return HandlerEventStatuses(
        handler=handler, statuses=statuses, filtered=filtered, dropped=dropped, since_ms=since_ms
    )


def _scan_queue(client: Any, handler: str, event_ids: Mapping[str, int]) -> tuple[dict[str, EventStatus], bool]:
    """Give the events that stand in a handler's queue, and whether all of it was looked through."""
    queue = queues.delivery_queue(handler)
    try:
        in_queue, claimed, started, scheduled = _read_job_ids(client, queue, at_once=True)
    except redis.OutOfMemoryError:
        # Then Redis takes no transaction, not even to read; what moves in this moment may be missed.
        in_queue, claimed, started, scheduled = _read_job_ids(client, queue, at_once=False)
    status_of_job: dict[str, EventStatus] = {}
    members_by_status: tuple[tuple[EventStatus, list[bytes]], ...] = (
        ("waiting", [*in_queue, *claimed]),
        ("scheduled", scheduled),
        ("running", [member.partition(b":")[0] for member in started]),
    )
    for status, members in members_by_status:
        status_of_job |= dict.fromkeys(map(as_text, members), status)
    with client.pipeline(transaction=False) as pipe:
        for job_id in status_of_job:
            pipe.lrange(keys.coalesced(job_id), 0, MAX_JOBS)
        coalesced = pipe.execute()
    for status, job_ids_ in zip(list(status_of_job.values()), coalesced, strict=True):
        status_of_job |= dict.fromkeys(map(as_text, job_ids_), status)
    ids = _within_byte_limit(client, list(status_of_job)[: MAX_JOBS + 1])
    return _find_in_jobs(client, ids, status_of_job, event_ids), len(ids) == len(status_of_job) and len(
        status_of_job
    ) <= MAX_JOBS


def _read_job_ids(client: Any, queue: str, *, at_once: bool) -> list[list[bytes]]:
    with client.pipeline(transaction=at_once) as pipe:
        pipe.lrange(keys.rq_queue(queue), -MAX_JOBS - 1, -1)
        pipe.lrange(keys.rq_intermediate(queue), 0, MAX_JOBS)
        pipe.zrange(keys.rq_started(queue), 0, MAX_JOBS)
        pipe.zrange(keys.rq_scheduled(queue), 0, MAX_JOBS)
        found: list[list[bytes]] = pipe.execute()
    return found


def _within_byte_limit(client: Any, job_ids: Sequence[str]) -> list[str]:
    """Give as many of these jobs as can be read for one page."""
    with client.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hstrlen(keys.job(job_id), "data")
        sizes = pipe.execute()
    within_limit: list[str] = []
    total_bytes = 0
    for job_id, size in zip(job_ids, sizes, strict=True):
        total_bytes += size
        if total_bytes <= MAX_BYTES:
            within_limit.append(job_id)
    return within_limit


def _find_in_jobs(
    client: Any, job_ids: Iterable[str], status_of_job: Mapping[str, EventStatus], event_ids: Mapping[str, int]
) -> dict[str, EventStatus]:
    found: dict[str, EventStatus] = {}
    for job_id in job_ids:
        data, settled = client.hmget(keys.job(job_id), "data", "progress")
        if data is None:
            continue  # done meanwhile
        try:
            *_, events = queues.parse_arguments(data)
            done = progress.parse(as_text(settled or progress.NOTHING))
        except (msgspec.MsgspecError, ValueError):
            continue  # a newer release's
        for position, (_, event_id, *_) in enumerate(events):
            if event_id in event_ids and position not in done:
                found[event_id] = status_of_job[job_id]
    return found
