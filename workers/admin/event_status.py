"""The status of events at each handler: dead letter, waiting, running, scheduled, delivered, or not known.

The work is bounded: of a queue with too many or too large jobs only a part is read, and an event that is not found
there has the status "unknown". Nothing is changed. A delivery leaves no mark of its own in Redis, so "delivered" is
returned only if the counters exclude everything else; otherwise the status is "gone".
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, queue_jobs, queues
from workers.admin.scheduled_retries import RetryRow, ScheduledRetries
from workers.expand import subscriptions
from workers.failures import failure_list

EventStatus: TypeAlias = Literal["dead", "waiting", "running", "scheduled", "delivered", "gone", "unknown"]

# For each handler: more than waits for one that keeps up, and about 50 ms of work.
MAX_JOBS: Final = 300
MAX_BYTES: Final = 4 << 20
_MAX_HANDLERS: Final = 30


class HandlerEventStatuses(Struct, frozen=True, kw_only=True):
    """The status of events at one handler, by their ids.

    `retries` has the scheduled ones. For those that are "gone": so far its filters left out `filtered` events,
    `dropped` were dropped, and since `since_ms` it has been offered every event; None if that is not known.
    """

    handler: str
    statuses: Mapping[str, EventStatus]
    filtered: int
    dropped: int
    since_ms: float | None
    retries: Mapping[str, RetryRow]


def find_statuses(connection: redis.Redis, event_ids: Mapping[str, int]) -> list[HandlerEventStatuses]:
    """Return the status of events at each handler. `event_ids`: when each was received, in ms since 1970.

    Raises redis.RedisError.
    """
    if not event_ids:
        return []
    client: Any = connection
    return [
        _find_at_handler(client, handler, event_ids)
        for handler in failure_list.handler_names(connection)[:_MAX_HANDLERS]
    ]


def _find_at_handler(client: Any, handler: str, event_ids: Mapping[str, int]) -> HandlerEventStatuses:
    found, jobs, is_whole = _scan_queue(client, handler, event_ids)
    # Read last, so that an event that becomes a dead letter meanwhile is found.
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
        handler=handler,
        statuses=statuses,
        filtered=filtered,
        dropped=dropped,
        since_ms=since_ms,
        retries=_read_retries(client, statuses, jobs),
    )


def _read_retries(client: Any, statuses: Mapping[str, EventStatus], job_of: Mapping[str, str]) -> dict[str, RetryRow]:
    by_event = {event_id: job_of[event_id] for event_id, status in statuses.items() if status == "scheduled"}
    rows = {row.job_id: row for row in ScheduledRetries(client).read_named(list(by_event.values()))}
    return {event_id: rows[job_id] for event_id, job_id in by_event.items() if job_id in rows}


def _scan_queue(
    client: Any, handler: str, event_ids: Mapping[str, int]
) -> tuple[dict[str, EventStatus], dict[str, str], bool]:
    """Return the status of the events found in a handler's queue, their jobs, and whether the whole queue was read."""
    jobs = queue_jobs.read_jobs(client, queues.delivery_queue(handler), last_index=MAX_JOBS, newest=True)
    status_of_job: dict[str, EventStatus] = {}
    ids_by_status: tuple[tuple[EventStatus, Iterable[str]], ...] = (
        ("waiting", (*jobs.waiting, *jobs.claimed)),
        ("scheduled", jobs.scheduled_at),
        ("running", jobs.running),
    )
    for status, job_ids in ids_by_status:
        status_of_job |= dict.fromkeys(job_ids, status)
    coalesced = queue_jobs.read_coalesced(client, list(status_of_job), last_index=MAX_JOBS)
    for status, job_ids in zip(list(status_of_job.values()), coalesced, strict=True):
        status_of_job |= dict.fromkeys(job_ids, status)
    ids = queue_jobs.limit_by_bytes(client, list(status_of_job)[: MAX_JOBS + 1], MAX_BYTES)
    is_whole = len(ids) == len(status_of_job) <= MAX_JOBS
    job_of = _find_jobs(client, ids, event_ids)
    return {event_id: status_of_job[job_id] for event_id, job_id in job_of.items()}, job_of, is_whole


def _find_jobs(client: Any, job_ids: Iterable[str], event_ids: Mapping[str, int]) -> dict[str, str]:
    """Return for each event that is found the job that holds it."""
    found: dict[str, str] = {}
    for job_id in job_ids:
        try:
            job = queue_jobs.read_delivery_job(client, job_id)
        except (msgspec.MsgspecError, ValueError):
            continue  # written by a newer release
        for _, (_, event_id, *_) in job.events:
            if event_id in event_ids:
                found[event_id] = job_id
    return found
