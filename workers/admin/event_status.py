"""The status of events at each handler, and every attempt to deliver them, as the delivery log has it.

An event is a dead letter, or in the handler's queue, or the delivery log says what became of it. What is in none of
them was not tried, as far as the log goes back. Without the log, "delivered" is returned only if the counters exclude
everything else. Nothing is changed, and the work is bounded: of a queue with too many or too large jobs only a part is
read. An event may also be in a job that cannot be read, as its key is missing or a newer release wrote it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, queue_jobs, queues
from shared.counted import counted
from workers.admin import delivery_history
from workers.admin.delivery_history import DeliveryAttempt, DeliveryHistory
from workers.admin.retry_rows import RetryRow
from workers.admin.scheduled_retries import ScheduledRetries
from workers.expand import subscriptions
from workers.failures import failure_list

# "dropped": its last attempt failed, and nothing is left of it. "untried": no attempt is in the log, which has all of
# that time. "unlogged": the log does not go back that far, or there is none.
EventStatus: TypeAlias = Literal[
    "dead", "waiting", "running", "scheduled", "delivered", "dropped", "untried", "unlogged"
]

# For each handler: more than waits for one that keeps up, and about 50 ms of work.
MAX_JOBS: Final = 300
MAX_BYTES: Final = 4 << 20
_MAX_HANDLERS: Final = 30
_TOO_LONG: Final = "waiting in the queue, which is too long to be searched"
_EVENT_ID: Final = re.compile(r"[0-9a-f]{24}")


class EventDelivery(Struct, frozen=True, kw_only=True):
    """Where an event is at one handler, what that may mean, every attempt to deliver it, and its scheduled retry."""

    handler: str
    event_id: str
    status: EventStatus
    explanation: str = ""
    attempts: Sequence[DeliveryAttempt] = ()
    retry: RetryRow | None = None


class HandlerEventStatuses(Struct, frozen=True, kw_only=True):
    """The status of events at one handler, by their ids.

    `retries` has the scheduled ones, `attempts` those that were tried; `explanations` says of those that are "dropped",
    "untried" or "unlogged" what may have become of them.
    """

    handler: str
    statuses: Mapping[str, EventStatus]
    explanations: Mapping[str, str]
    retries: Mapping[str, RetryRow]
    attempts: Mapping[str, list[DeliveryAttempt]]

    def delivery(self, event_id: str) -> EventDelivery:
        """Return what is known of one of the events at this handler."""
        return EventDelivery(
            handler=self.handler,
            event_id=event_id,
            status=self.statuses[event_id],
            explanation=self.explanations.get(event_id, ""),
            attempts=self.attempts.get(event_id, ()),
            retry=self.retries.get(event_id),
        )


class _HandlerFindings(Struct, frozen=True, kw_only=True):
    """What Redis has of the events at one handler, besides the log.

    So far its filters left out `filtered` events, `dropped` were dropped, and since `since_ms` it has been offered
    every event; None if that is not known. `unread` says where else in its queue an event may wait; empty if all of it
    was read.
    """

    dead: frozenset[str]
    queued: Mapping[str, EventStatus]
    unread: Sequence[str]
    filtered: int
    dropped: int
    since_ms: float | None

    @property
    def is_whole(self) -> bool:
        """Whether all of its queue was read."""
        return not self.unread


def find_statuses(connection: redis.Redis, event_ids: Mapping[str, int]) -> list[HandlerEventStatuses]:
    """Return the status of events at each handler. `event_ids`: when each was received, in ms since 1970.

    Raise redis.RedisError.
    """
    if not event_ids:
        return []
    client: Any = connection
    handlers = failure_list.handler_names(connection)[:_MAX_HANDLERS]
    found = [(handler, *_find_at_handler(client, handler, event_ids)) for handler in handlers]
    # Read last, so that an event that is delivered meanwhile is found.
    history = delivery_history.read_history(connection, event_ids)
    return [
        _judge(handler, event_ids, at, history, _read_retries(client, at.queued, jobs)) for handler, at, jobs in found
    ]


def find_event(connection: redis.Redis, event_id: str) -> list[HandlerEventStatuses]:
    """Return the status of an event at each handler that has it, or had it as far back as the delivery log goes.

    Nothing else is known of it, as when it was received. Return nothing for a text that is no event's id.

    Raise redis.RedisError.
    """
    if not _EVENT_ID.fullmatch(event_id):
        return []
    found = find_statuses(connection, {event_id: 0})
    return [at for at in found if at.attempts or at.statuses[event_id] in ("dead", "waiting", "running", "scheduled")]


def group_by_event(found: Iterable[HandlerEventStatuses], *, kept_by: str = "") -> dict[str, list[EventDelivery]]:
    """Return the deliveries of each event by its id, one for each handler.

    `kept_by`: the handler in whose tables the events were found. What the log does not know of it, it has delivered.
    """
    grouped: dict[str, list[EventDelivery]] = {}
    for at in found:
        for event_id, status in at.statuses.items():
            delivery = at.delivery(event_id)
            if at.handler == kept_by and status in ("untried", "unlogged"):
                delivery = EventDelivery(handler=at.handler, event_id=event_id, status="delivered")
            grouped.setdefault(event_id, []).append(delivery)
    return grouped


def _find_at_handler(
    client: Any, handler: str, event_ids: Mapping[str, int]
) -> tuple[_HandlerFindings, dict[str, str]]:
    queued, jobs, unread = _scan_queue(client, handler, event_ids)
    # Read later, so that an event that becomes a dead letter meanwhile is found.
    with client.pipeline(transaction=False) as pipe:
        for event_id in event_ids:
            pipe.exists(keys.dead_letter(handler, event_id))
        for outcome in ("filtered", "dropped", "forgotten"):
            for kind in ("report", "reply"):
                pipe.hget(keys.COUNTS, keys.handler_counter(handler, kind, outcome))
        pipe.hget(keys.SUBSCRIPTIONS, handler)
        *reply, text = pipe.execute()
    dead, numbers = reply[: len(event_ids)], [int(number or 0) for number in reply[len(event_ids) :]]
    subscription = None if text is None else subscriptions.parse(as_text(text))
    is_known = subscription is not None and not subscription.is_pending
    found = _HandlerFindings(
        dead=frozenset(event_id for event_id, is_dead in zip(event_ids, dead, strict=True) if is_dead),
        queued=queued,
        unread=unread,
        filtered=sum(numbers[:2]),
        dropped=sum(numbers[2:]),
        since_ms=subscription.since_ms if subscription is not None and is_known else None,
    )
    return found, jobs


def _judge(
    handler: str,
    event_ids: Mapping[str, int],
    at: _HandlerFindings,
    history: DeliveryHistory,
    retries: Mapping[str, RetryRow],
) -> HandlerEventStatuses:
    statuses: dict[str, EventStatus] = {}
    explanations: dict[str, str] = {}
    attempts: dict[str, list[DeliveryAttempt]] = {}
    for event_id, received_ms in event_ids.items():
        tried = history.attempts.get((event_id, handler), [])
        if tried:
            attempts[event_id] = tried
        status = statuses[event_id] = _status(event_id, received_ms, at, history, tried)
        if status == "dropped":
            explanations[event_id] = "dropped or purged after its last attempt failed"
        elif status in ("untried", "unlogged"):
            possible = list(_possibilities(at, received_ms))
            explanations[event_id] = ", or ".join(possible if status == "untried" else ["delivered", *possible]) + (
                "" if status == "untried" else f" ({_log_text(history.since)})"
            )
    return HandlerEventStatuses(
        handler=handler, statuses=statuses, explanations=explanations, retries=retries, attempts=attempts
    )


def _status(
    event_id: str, received_ms: int, at: _HandlerFindings, history: DeliveryHistory, tried: list[DeliveryAttempt]
) -> EventStatus:
    if event_id in at.dead:
        return "dead"
    if event_id in at.queued:
        return at.queued[event_id]
    if tried and tried[-1].result == "delivered":
        return "delivered"
    if tried:
        # A dead letter that is replayed waits in what was not read of the queue.
        return "dropped" if at.is_whole else "scheduled" if tried[-1].result == "retry" else "waiting"
    is_subscribed = at.since_ms is not None and at.since_ms <= received_ms
    if history.covers(received_ms):
        is_waiting = is_subscribed and not at.filtered and not at.dropped
        return "waiting" if is_waiting else "untried"
    is_certain = at.is_whole and is_subscribed and not at.filtered and not at.dropped
    return "delivered" if is_certain else "unlogged"


def _possibilities(at: _HandlerFindings, received_ms: int) -> Iterator[str]:
    """Yield what may have become of an event that was not tried."""
    yield from at.unread
    if at.filtered:
        yield "left out by its filters"
    if at.dropped:
        yield f"one of {counted(at.dropped, 'event that was', 'events that were')} dropped"
    if at.since_ms is None or at.since_ms > received_ms:
        yield "received before this handler was added"


def _log_text(since: datetime | None) -> str:
    if since is None:
        return "there is no delivery log: CALLBACKS_DELIVERY_LOG_BYTES is 0, or no worker has delivered yet"
    return f"older than the delivery log, which goes back to {since:%Y-%m-%d %H:%M} UTC"


def _read_retries(client: Any, statuses: Mapping[str, EventStatus], job_of: Mapping[str, str]) -> dict[str, RetryRow]:
    by_event = {event_id: job_of[event_id] for event_id, status in statuses.items() if status == "scheduled"}
    rows = {row.job_id: row for row in ScheduledRetries(client).read_named(list(by_event.values()))}
    return {event_id: rows[job_id] for event_id, job_id in by_event.items() if job_id in rows}


def _scan_queue(
    client: Any, handler: str, event_ids: Mapping[str, int]
) -> tuple[dict[str, EventStatus], dict[str, str], list[str]]:
    """Return the status of the events found in a handler's queue, their jobs, and where others may be in it."""
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
    job_of, reason = _find_jobs(client, ids, event_ids)
    unread = [] if len(ids) == len(status_of_job) <= MAX_JOBS else [_TOO_LONG]
    unread += [f"waiting in a job that cannot be read ({reason})"] if reason else []
    return {event_id: status_of_job[job_id] for event_id, job_id in job_of.items()}, job_of, unread


def _find_jobs(client: Any, job_ids: Iterable[str], event_ids: Mapping[str, int]) -> tuple[dict[str, str], str]:
    """Return for each event that is found the job that holds it, and why the first unreadable job is that, or ""."""
    found: dict[str, str] = {}
    reason = ""
    for job_id in job_ids:
        try:
            job = queue_jobs.read_delivery_job(client, job_id)
        except msgspec.MsgspecError:
            reason = reason or "it is damaged"  # the error may quote it
            continue
        except ValueError as exc:
            reason = reason or str(exc)  # sealed with a key that is missing, or written by a newer release
            continue
        for _, (_, event_id, *_) in job.events:
            if event_id in event_ids:
                found[event_id] = job_id
    return found, reason
