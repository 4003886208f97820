"""A retry as lists show it, its place in the order of all retries, and which retries a filter matches.

A retry is mostly a job of one event (`workers/deliver/retries.py`). A job of several is one with which this service
failed as a whole (`workers/runtime/requeue.lua`); it is one retry too.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, Self

import msgspec
from msgspec import Struct
from rq.utils import as_text

from shared import events, keys, progress, queue_jobs, sealed_data, sealed_field, stored_events
from shared.counted import counted
from shared.stored_times import stored_time
from workers.failures import event_summary

# Of a job: what its row is made of.
FIELDS: Final = ("error", "attempts", "failures", "created_at")
# Of an event: by any of them a retry is found.
_IDS: Final = ("id", "message_id", "client_message_id", "reply_message_id", "orig_message_id", "req_uuid")


class RetryCursor(Struct, frozen=True, order=True):
    """A position in the order of all retries: when one is due, in seconds since 1970, and the id of its job."""

    due_seconds: float = 0.0
    job_id: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that `text` stands for. Raise ValueError."""
        found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)-([0-9a-f]{1,64})", text)
        if found is None:
            raise ValueError("not a cursor")
        return cls(float(found[1]), found[2])

    @property
    def text(self) -> str:
        """The cursor as a form or a URL carries it."""
        return f"{self.due_seconds!r}-{self.job_id}"


class Member(NamedTuple):
    """A retry as the registry of its handler has it, in the order in which they are due."""

    cursor: RetryCursor
    handler: str


class RetryFilter(Struct, frozen=True, kw_only=True):
    """Which retries match; what is empty matches all.

    `error` is a text that the error contains, in any case. `event_ids`: it has one of these events. `message` is any id
    of its event, or of the message or reply that the event is about. `created_until`: it was scheduled until then, as
    `queues.job_time` writes times.
    """

    handler: str = ""
    error: str = ""
    event_ids: tuple[str, ...] = ()
    message: str = ""
    created_until: str = ""

    @property
    def matches_all(self) -> bool:
        """Whether every retry matches."""
        return self == RetryFilter()

    @property
    def reads_events(self) -> bool:
        """Whether an event has to be read to know whether it matches."""
        return bool(self.event_ids or self.message)

    def matches(self, event: events.Event) -> bool:
        """Return whether an event has the ids."""
        if self.event_ids and event.id not in self.event_ids:
            return False
        return not self.message or any(getattr(event, name, None) == self.message for name in _IDS)


class RetryRow(Struct, frozen=True, kw_only=True):
    """A retry as a list shows it: an event, its last error, which attempt is due, of how many, and when.

    `id` is the event's; it and what follows is None if a newer release wrote the event, or its key is missing.
    `attempts` is None if this is not known. `events` is how many are left in its job; the first that matches is shown.
    `matching_ids`: those of all that match, if some were asked for by id.
    """

    handler: str
    job_id: str
    next_at: datetime
    error: str
    attempt: int | None = None
    attempts: int | None = None
    events: int = 1
    matching_ids: tuple[str, ...] = ()
    id: str | None = None
    kind: str | None = None
    message_id: str | None = None
    status: str | None = None
    number: str | None = None


def error_text(job_id: str, values: Sequence[bytes | None]) -> str:
    """Return the last error of a job, from the values of FIELDS; why, if it cannot be opened."""
    error, _, failures, _ = values
    if error is None and failures is not None:
        return f"{counted(int(failures), 'run')} of its job failed in this service: see action=job_failed in its log"
    return sealed_field.unseal(keys.job(job_id), "error", error or b"").decode(errors="replace")


def make_row(
    wanted: RetryFilter, member: Member, values: Sequence[bytes | None], stored: queue_jobs.StoredJob
) -> RetryRow | None:
    """Return the row of a retry from the values of FIELDS and its job; None if it does not have one of the ids."""
    row = RetryRow(
        handler=member.handler,
        job_id=member.cursor.job_id,
        next_at=stored_time(member.cursor.due_seconds * 1000),
        error=error_text(member.cursor.job_id, values),
        attempts=None if values[1] is None else int(values[1]),
    )
    try:
        _, _, attempt, encoded = stored.arguments()
        (settled,) = stored.values
        done = progress.parse(as_text(settled or progress.NOTHING))
        left = stored_events.decode(encoded, [position for position in range(len(encoded)) if position not in done])
    except sealed_data.SealKeyMissing as exc:
        return None if wanted.reads_events else msgspec.structs.replace(row, error=str(exc))
    except (msgspec.MsgspecError, ValueError):
        return None if wanted.reads_events else row  # written by a newer release
    matching = [event for event in left if wanted.matches(event)]
    if not matching:
        return None
    shown, ids = matching[0], tuple(event.id for event in matching) if wanted.event_ids else ()
    return msgspec.structs.replace(
        row, id=shown.id, attempt=attempt, events=len(left), matching_ids=ids, **event_summary.summarize(shown)
    )
