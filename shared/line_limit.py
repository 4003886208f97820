"""One line of each kind per interval, of what callbacks, events and libraries can cause again and again.

It is a filter of the handler that writes the log, so no such line passes it. Lines that `RateLimitedLog` writes have
their count already, with kinds of their own.
"""

import logging
from typing import Final

from shared.library_lines import is_library
from shared.rate_limited_log import LineCounter
from shared.structured_log import LogEvent

INTERVAL_SECONDS: Final = 10.0
# What a worker may have to say of each event or job.
REPEATED: Final = frozenset(
    (
        "callback_split",
        "event_dead",
        "event_failed",
        "event_retried",
        "execution_unreadable",
        "job_claimed_elsewhere",
        "job_end_unconfirmed",
        "job_failed",
        "job_moved_to_failures",
        "job_replace_failed",
        "job_requeued",
        "job_run_stale",
        "job_sealed",
        "job_split",
        "job_unreadable",
        "run_split",
    )
)
# Two of these lines with the same values of these fields are of one kind. `error` may be another for each event.
_KIND_FIELDS: Final = ("queue", "handler", "cause", "key")
# Two lines of a library are of one kind if they begin the same: what it fills in comes later.
_KIND_CHARACTERS: Final = 32


class LineLimit(logging.Filter):
    """Passes one line of each kind per interval, with how many there were since the last; and all other lines.

    How many is `events` in a line of events, else `count`. A library's information passes: no sender can cause it, only
    the start and the end of a server do.
    """

    def __init__(self, counter: LineCounter | None = None) -> None:
        super().__init__()
        self._counter = counter or LineCounter(interval_seconds=INTERVAL_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        fields = record.msg
        if isinstance(fields, LogEvent):
            return fields["action"] not in REPEATED or self._is_event_due(record, fields)
        if record.levelno < logging.WARNING or not is_library(record.name):
            return True
        count = self._counter.count((record.name, str(record.msg)[:_KIND_CHARACTERS]))
        record.__dict__["count"] = count
        return count > 0

    def _is_event_due(self, record: logging.LogRecord, fields: LogEvent) -> bool:
        unit = "events" if "events" in fields else "count"
        kind = (fields["action"], *map(fields.get, _KIND_FIELDS))
        count = self._counter.count(kind, fields.get(unit, 1))
        record.msg = LogEvent({**fields, unit: count})
        return count > 0
