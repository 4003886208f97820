"""The scheduled retries of all handlers: events that failed and wait for their next attempt. Listed, found, promoted.

They are read from RQ's registries of scheduled jobs, the first to be due first, a bounded page at a time, with a cursor
for the next page.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, queue_jobs, queues
from shared.counted import counted
from workers.admin import handler_states
from workers.admin.retry_rows import FIELDS, Member, RetryCursor, RetryFilter, RetryRow, error_text, make_row
from workers.runtime.job_transitions import JobTransitions

# How many retries are read for one page when hardly any matches: about ten round trips.
MAX_SCANNED: Final = 5000
# Redis does nothing else while a script promotes as many: about 2 ms.
JOBS_PER_STEP: Final = 500
# Of jobs, read at once with their data; a single job may be larger.
_ROWS_PER_READ: Final = 100
_BYTES_PER_READ: Final = 2 << 20


class RetryPage(Struct, frozen=True):
    """The rows of a page, the cursor of the next one, None at the end, and how many retries were read for it."""

    rows: tuple[RetryRow, ...]
    next_cursor: RetryCursor | None
    scanned: int


class ScheduledRetries:
    """The retries over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        # Any, as redis-py types replies as bytes or str, and here they are always bytes.
        self._connection: Any = connection

    def count(self) -> dict[str, int]:
        """Return how many retries each handler has, without handlers that have none."""
        names = handler_states.known_names(self._connection)
        with self._connection.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(keys.rq_scheduled(queues.delivery_queue(name)))
            sizes = pipe.execute()
        return {name: size for name, size in zip(names, sizes, strict=True) if size}

    def read_page(
        self,
        wanted: RetryFilter,
        *,
        after: RetryCursor | None = None,
        limit: int,
        max_scanned: int = MAX_SCANNED,
    ) -> RetryPage:
        """Return matching rows after a cursor: `limit` of them, or those among the next `max_scanned` retries."""
        handlers = self._handlers(wanted)
        found: list[tuple[RetryCursor, RetryRow]] = []
        cursor, scanned = after or RetryCursor(), 0
        while scanned < max_scanned:
            members = self._read_members(handlers, cursor)
            for member, row in self._read_rows(wanted, members):
                # One more than fits on the page: it says that there is a next page.
                if len(found) == limit:
                    return RetryPage(tuple(row for _, row in found), found[-1][0], scanned + len(members))
                found.append((member.cursor, row))
            scanned += len(members)
            if len(members) < JOBS_PER_STEP:
                return RetryPage(tuple(row for _, row in found), None, scanned)
            cursor = members[-1].cursor
        return RetryPage(tuple(row for _, row in found), cursor, scanned)

    def read_named(self, job_ids: Sequence[str]) -> list[RetryRow]:
        """Return the rows of the retries with these jobs, without those that are no longer scheduled."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "origin")
            origins = [as_text(origin or b"") for origin in pipe.execute()]
        prefix = queues.delivery_queue("")
        named = [(job_id, queue) for job_id, queue in zip(job_ids, origins, strict=True) if queue.startswith(prefix)]
        with self._connection.pipeline(transaction=False) as pipe:
            for job_id, queue in named:
                pipe.zscore(keys.rq_scheduled(queue), job_id)
            scores = pipe.execute()
        members = [
            Member(RetryCursor(score, job_id), queue.removeprefix(prefix))
            for (job_id, queue), score in zip(named, scores, strict=True)
            if score is not None
        ]
        return [row for _, row in self._read_rows(RetryFilter(), members)]

    def iterate(self, wanted: RetryFilter, *, skip: int = 0) -> Iterator[RetryRow]:
        """Yield all matching rows without the first `skip`; read while it is iterated."""
        # Without a condition on their content, those that are skipped are not read.
        unread = 0 if wanted.error or wanted.reads_events else skip
        yield from islice(self._iterate_rows(wanted, unread), skip - unread, None)

    def find(self, wanted: RetryFilter, *, after: RetryCursor | None = None) -> tuple[list[Member], RetryCursor | None]:
        """Return those of the next JOBS_PER_STEP retries that match, and the cursor of the next ones, None at the end.

        Of them only what the filter asks for is read.
        """
        members = self._read_members(self._handlers(wanted), after or RetryCursor())
        if wanted.reads_events:
            matching = [member for member, _ in self._read_rows(wanted, members)]
        else:
            matching = [member for member, _ in self._select(wanted, members)]
        return matching, members[-1].cursor if len(members) == JOBS_PER_STEP else None

    def promote(self, retries: Iterable[tuple[str, str]]) -> int:
        """Move retries, each a handler and the id of a job, to their queues now; return how many were moved.

        Those of one handler are moved together. One that is no longer scheduled stays what it is.
        """
        by_handler: defaultdict[str, list[str]] = defaultdict(list)
        for handler, job_id in retries:
            by_handler[handler].append(job_id)
        return sum(
            JobTransitions(queues.delivery_queue(handler), connection=self._connection).promote(job_ids)
            for handler, job_ids in by_handler.items()
        )

    def _handlers(self, wanted: RetryFilter) -> list[str]:
        return [wanted.handler] if wanted.handler else list(self.count())

    def _read_members(self, handlers: Sequence[str], after: RetryCursor) -> list[Member]:
        """Return the next JOBS_PER_STEP retries of these handlers after a cursor."""
        found = (
            Member(RetryCursor(due, job_id), handler)
            for handler in handlers
            for due, job_id in queue_jobs.list_scheduled_after(
                self._connection,
                queues.delivery_queue(handler),
                (after.due_seconds, after.job_id),
                limit=JOBS_PER_STEP,
            )
        )
        return sorted(found)[:JOBS_PER_STEP]

    def _iterate_rows(self, wanted: RetryFilter, unread: int) -> Iterator[RetryRow]:
        handlers = self._handlers(wanted)
        cursor = RetryCursor()
        while True:
            members = self._read_members(handlers, cursor)
            for _, row in self._read_rows(wanted, members[unread:]):
                yield row
            unread = max(unread - len(members), 0)
            if len(members) < JOBS_PER_STEP:
                return
            cursor = members[-1].cursor

    def _select(self, wanted: RetryFilter, members: Sequence[Member]) -> Iterator[tuple[Member, Sequence[Any]]]:
        """Yield the members that match as far as is known without their events, each with the values of FIELDS."""
        error = wanted.error.casefold()
        with self._connection.pipeline(transaction=False) as pipe:
            for member in members:
                pipe.hmget(keys.job(member.cursor.job_id), FIELDS)
            reply = pipe.execute()
        for member, values in zip(members, reply, strict=True):
            *_, created_at = values
            if created_at is None:
                continue  # deleted by hand
            if wanted.created_until and as_text(created_at) > wanted.created_until:
                continue
            if error in error_text(member.cursor.job_id, values).casefold():
                yield member, values

    def _read_rows(self, wanted: RetryFilter, members: Sequence[Member]) -> Iterator[tuple[Member, RetryRow]]:
        """Yield the members that match, each with its row; what they hold is read in batches of bounded size."""
        selected = dict(self._select(wanted, members))
        ids = [member.cursor.job_id for member in selected]
        rest = list(selected.items())
        while rest:
            batch = rest[: len(queue_jobs.limit_by_bytes(self._connection, ids[:_ROWS_PER_READ], _BYTES_PER_READ)) or 1]
            rest, ids = rest[len(batch) :], ids[len(batch) :]
            found = queue_jobs.read_stored(self._connection, [member.cursor.job_id for member, _ in batch], "progress")
            for (member, values), stored in zip(batch, found, strict=True):
                if stored.data is not None and (row := make_row(wanted, member, values, stored)) is not None:
                    yield member, row


def retries_where(handler: str) -> str:
    """Return the name of the retries of a handler, or of all, in the action log."""
    return f"retries:{handler}" if handler else "retries"


def describe_retries(wanted: RetryFilter) -> str:
    """Return which retries a filter matches, in words, without the text and the id that were searched for."""
    parts = ["of one message"] if wanted.message else []
    if wanted.error:
        parts.append(f"whose error contains a text of {counted(len(wanted.error), 'character')}")
    return " ".join(["all", *parts])
