"""A harness for the workers: callbacks kept as the web process keeps them, workers run to the end, and what is left.

Workers run here in the test's own process (`Harness.expand`, `Harness.deliver`), or each in a process of its own, which
dies, or loses its connection, at a given Redis command (`tests.integration.faults`).
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis

from shared import audit, connections, events, keys, queue_jobs, queues
from shared.batches import Accepted, Quarantined
from shared.metrics import Metrics
from tests import commit_pipeline, marks
from workers import jobs
from workers.activity import ActivityPublisher
from workers.declaration import ATTRIBUTE, Handler
from workers.deliver.activity import DeliveryActivity
from workers.deliver.call.caller import Caller
from workers.deliver.delivery import Deliverer
from workers.expand.activity import ExpandActivity
from workers.expand.expansion import Expander
from workers.failures.failed_jobs import FailedJob
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.maintenance import Maintenance
from workers.runtime.worker import QueueWorker

DEDUPE_SECONDS: Final = 3600
RECEIVED_MS: Final = 1_700_000_000_000
# RQ's bookkeeping that stays: names of queues, workers that ended lately, locks.
_KEPT_RQ_KEYS: Final = ("rq:queues", "rq:workers", "rq:worker:", "rq:scheduler")

# What stays of the service's own: marks, counters, and what operators did.
_KEPT_KEYS: Final = (
    keys.SEEN,
    keys.COUNTS,
    keys.METRICS,
    keys.RECENT_OUTCOMES,
    keys.FILTERS,
    keys.SUBSCRIPTIONS,
    keys.ACTIONS,
)


@dataclass(frozen=True)
class HandlerTotals:
    """How many events of one handler are delivered, dead, waiting and missing."""

    delivered: int = 0
    dead: int = 0
    waiting: int = 0
    missing: int = 0


class TestWorker(QueueWorker):
    """The worker as it is, without the thread that listens for RQ's commands, and without its signal handlers."""

    __test__ = False

    def subscribe(self) -> None:
        """Listen for nothing."""

    def _install_signal_handlers(self) -> None:
        """Leave the test's own."""


class Harness:
    """The two stages over one Redis, with the handlers given."""

    def __init__(
        self,
        url: str,
        *functions: Callable[..., Any],
        dedupe_seconds: int = DEDUPE_SECONDS,
        journals: JournalFolder | None = None,
    ) -> None:
        self.url = url
        self._journals = journals or JournalFolder()
        # Any, as redis-py's types of answers say bytes or str, and here they are always bytes.
        self.connection: Any = connections.connect(url)
        self.handlers: tuple[Handler, ...] = tuple(declaration_of(function) for function in functions)
        self._dedupe_seconds = dedupe_seconds
        # What the deliver workers count.
        self.metrics = Metrics()
        self.log_bytes = 64 << 20
        # As if `callbacks dev` had started the workers.
        self.is_watched = False

    def accept(self, *callbacks: Accepted, quarantined: Iterable[Quarantined] = ()) -> None:
        """Commit these callbacks together, as one batch."""
        with self.connection.pipeline() as pipe:
            commit_pipeline.add(pipe, callbacks, quarantined)
            pipe.execute()

    def expand(self, *, connection: redis.Redis | None = None, max_jobs: int | None = None, name: str = "") -> None:
        """Expand what waits, until nothing does."""
        connection = connection or self.connection
        expander = Expander(
            connection=connection,
            handlers=self.handlers,
            dedupe_seconds=self._dedupe_seconds,
            activity=ExpandActivity(connection, [one.name for one in self.handlers]) if self.is_watched else None,
        )
        jobs.prepare(expander=expander)
        worker = self.worker(queues.EXPAND, connection=connection, name=name)
        worker.work(burst=True, logging_level="CRITICAL", max_jobs=max_jobs)

    def deliver(
        self,
        function: Callable[..., Any],
        *,
        connection: redis.Redis | None = None,
        stop_when: Callable[[], bool] = bool,
        max_jobs: int | None = None,
        name: str = "",
    ) -> None:
        """Deliver what waits for this handler, until nothing does, or `stop_when` says that a SIGTERM came."""
        handler, connection = declaration_of(function), connection or self.connection
        queue = queues.delivery_queue(handler.name)
        name = name or worker_name(queue)
        with Caller(handler, metrics=self.metrics) as caller, closing(self._journals.open(name)) as journal:
            jobs.prepare(
                deliverer=Deliverer(
                    connection=connection,
                    handler=handler,
                    caller=caller,
                    journal=journal,
                    is_stopping=lambda: bool(stop_when()),
                    log_bytes=self.log_bytes,
                    metrics=self.metrics,
                    activity=DeliveryActivity(ActivityPublisher(connection), handler) if self.is_watched else None,
                )
            )
            worker = self.worker(queue, connection=connection, name=name, journal=journal)
            worker.work(burst=True, logging_level="CRITICAL", max_jobs=max_jobs)

    def enter_as_running(self, job_id: str, worker: str) -> list[Any]:
        """Write into a job that `worker` runs it, and return its arguments."""
        self.connection.hset(keys.job(job_id), mapping={"status": "started", "worker_name": worker})
        return queues.parse_arguments(self.connection.hget(keys.job(job_id), "data"))

    def waiting_jobs(self, queue: str) -> list[str]:
        """Return the ids of the jobs that wait in a queue, first to last."""
        return [job_id.decode() for job_id in self.connection.lrange(keys.rq_queue(queue), 0, -1)]

    def worker(
        self,
        queue: str,
        *,
        connection: redis.Redis | None = None,
        name: str = "",
        journal: CompletionJournal | None = None,
    ) -> TestWorker:
        return TestWorker(
            queue,
            name=name or worker_name(queue),
            connection=connection or self.connection,
            journal=journal or CompletionJournal(),
            read_failed_job=FailedJob,
        )

    def maintenance(self, *functions: Callable[..., Any]) -> Maintenance:
        names = [queues.EXPAND, *(queues.delivery_queue(declaration_of(function).name) for function in functions)]
        return Maintenance(names, connection=connections.connect(self.url))

    def audit(self) -> audit.Audit:
        return audit.run(self.connection)

    def totals(self, handler: Callable[..., Any] | str) -> HandlerTotals:
        """Return the audit's totals of one handler; all are 0 before it has had an event."""
        name = handler if isinstance(handler, str) else declaration_of(handler).name
        found = next((one for one in self.audit().handlers if one.handler == name), None)
        return HandlerTotals(found.delivered, found.dead, found.waiting, found.missing) if found else HandlerTotals()

    def counters(self) -> dict[str, int]:
        """Return the counters that are not zero."""
        raw = self.connection.hgetall(keys.COUNTS)
        return {name.decode(): int(number) for name, number in raw.items() if int(number)}

    def waiting_events(self, function: Callable[..., Any]) -> list[list[Any]]:
        """Return the events in each job that waits in the handler's queue."""
        ids = self.waiting_jobs(queues.delivery_queue(declaration_of(function).name))
        jobs_found = queue_jobs.read_stored(self.connection, ids)
        return [list(events.decode_each(job.arguments()[3])) for job in jobs_found]

    def waiting_event_ids(self, function: Callable[..., Any]) -> list[str]:
        """Return the ids of the events that wait in the handler's queue."""
        return [event.id for job in self.waiting_events(function) for event in job]

    def marks(self) -> set[bytes]:
        """Return the marks of events and requests seen."""
        return marks.read(self.connection)

    def forget_marks(self) -> None:
        """Let all marks end, as after CALLBACKS_DEDUPE_SECONDS."""
        marks.forget(self.connection)

    def quarantine(self) -> list[dict[str, str]]:
        return self._failures(keys.QUARANTINE, keys.quarantined)

    def dead_letters(self, handler: str) -> list[dict[str, str]]:
        return self._failures(keys.dead(handler), lambda failure_id: keys.dead_letter(handler, failure_id))

    def leftover_keys(self) -> set[str]:
        """Return the keys that are neither of _KEPT_KEYS, nor held as failures, nor RQ's bookkeeping.

        Nor are those of the delivery log, which has a size of its own. Those of portions are among them unless each is
        needed by as many jobs as are counted.
        """
        kept = (*_KEPT_KEYS, keys.QUARANTINE, keys.DELIVERY_LOG, "cb:dead:", *_KEPT_RQ_KEYS)
        left = {key.decode() for key in self.connection.scan_iter(count=1000) if not key.decode().startswith(kept)}
        needed = Counter(
            name
            for key in left
            if key.startswith(keys.job(""))
            for name in (self.connection.hget(key, "portions") or b"").split()
        )
        stored = set(self.connection.hkeys(keys.PORTIONS))
        counted = {name: int(number) for name, number in self.connection.hgetall(keys.PORTION_JOBS).items()}
        return left - {keys.PORTIONS, keys.PORTION_JOBS} if counted == needed and stored == set(needed) else left

    def _failures(self, index: str, key: Callable[[str], str]) -> list[dict[str, str]]:
        ids = [failure_id.decode() for failure_id in self.connection.zrange(index, 0, -1)]
        return [
            {name.decode(): value.decode() for name, value in self.connection.hgetall(key(failure_id)).items()}
            for failure_id in ids
        ]


@contextmanager
def open_harness(url: str, *functions: Callable[..., Any], dedupe_seconds: int = DEDUPE_SECONDS) -> Iterator[Harness]:
    """Yield a bench, and close what it opened."""
    made = Harness(url, *functions, dedupe_seconds=dedupe_seconds)
    with ExitStack() as stack:
        stack.callback(made.connection.close)
        yield made


def declaration_of(function: Callable[..., Any]) -> Handler:
    """Return what @handler left on the function."""
    declaration: Handler = getattr(function, ATTRIBUTE)
    return declaration


def due_now(harness: Harness, function: Callable[..., Any]) -> list[float]:
    """Make the scheduled retries due and promote them; return for each after how many seconds it was due."""
    queue = queues.delivery_queue(declaration_of(function).name)
    scheduled = harness.connection.zrange(keys.rq_scheduled(queue), 0, -1, withscores=True)
    for job_id, _ in scheduled:
        harness.connection.zadd(keys.rq_scheduled(queue), {job_id: time.time() - 1})
    keeper = harness.maintenance(function)
    keeper.tick([])
    keeper.close()
    return [due - time.time() for _, due in scheduled]


def worker_name(queue: str) -> str:
    """Name a worker as the supervisor does."""
    return f"{queue}-{uuid.uuid4().hex}"


def record(message_id: str, status: str = "DELIVRD", **more: Any) -> dict[str, Any]:
    """Return one record of a status callback."""
    return {
        "type": "VIBER",
        "message_id": message_id,
        "status": status,
        "timestamp": 1443165176,
        "micro_timestamp": 1443165176020,
        "to": "35699000001",
        "from": "Fortytwo",
        "error_code": 0,
        **more,
    }


def status(*records: object, source: str = "gw", **envelope: Any) -> Accepted:
    """Return a status callback as the web process keeps it."""
    body = json.dumps({"api_job_id": "5fa8f6c9-8f5d-4b5e-9c5f-0f2d6a1c7b11", **envelope, "data": records})
    return Accepted("status", source, RECEIVED_MS, len(records), body)


def statuses(message_ids: Sequence[str], *, bundle: int = 10, **more: Any) -> list[Accepted]:
    """Return callbacks that report each of these messages once, `bundle` of them in each."""
    return [
        status(*(record(message_id, **more) for message_id in message_ids[first : first + bundle]))
        for first in range(0, len(message_ids), bundle)
    ]


def reply(reply_message_id: str | None, req_uuid: str | None = None, text: str = "yes") -> Accepted:
    """Return a reply callback as the web process keeps it."""
    body: dict[str, Any] = {
        **({} if reply_message_id is None else {"reply_message_id": reply_message_id}),
        "channel": "VIBER",
        "timestamp": 1443165200,
        "from": "35699000001",
        "to": "Fortytwo",
        "message": {"text": text},
    }
    if req_uuid is not None:
        body["req_uuid"] = req_uuid
    return Accepted("reply", "gw", RECEIVED_MS, 1, json.dumps(body))
