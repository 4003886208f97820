"""How many messages are overdue, by the tables of the handler `sql`, for *Now*, `/metrics` and the notices.

A thread of its own asks the database now and then, so a slow or unavailable database delays nothing else.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import msgspec
from msgspec import Struct

from callbacks.ops.status.history_tables import TablesEmpty, TablesUnavailable, open_tables
from shared.background import Background
from shared.rate_limited_log import RateLimitedLog
from shared.settings import Settings
from shared.structured_log import get_logger

_ROUND_SECONDS: Final = 1.0
_EVERY_SECONDS: Final = 10.0
# The count takes at most this share of a database's time, however slow it is.
_MAX_TIME_SHARE: Final = 0.05
_END_SECONDS: Final = 5.0
_LOG_SECONDS: Final = 300.0
# Some messages never get a final status: a phone that is off for good, a report that is lost on its way to the gateway.
_WARNING_SHARE: Final = 0.01

log = get_logger("callbacks.overdue")


def overdue_before(settings: Settings) -> datetime:
    """Return before when the first report of a message came that is overdue now if it has no final status."""
    return datetime.now(UTC) - timedelta(seconds=settings.overdue_seconds)


class OverdueStatus(Struct, frozen=True, kw_only=True):
    """How many messages have no final status `after_seconds` after their first report; None if that is not known.

    `recent_overdue` are those of the `recent_messages` that became due in the last week. `problem` is why the numbers
    are not known now; those of the last count stay.
    """

    after_seconds: int
    messages: int | None = None
    recent_messages: int = 0
    recent_overdue: int = 0
    problem: str = ""

    @property
    def recent_share(self) -> float:
        """The share of the last week's messages that is overdue, from 0 to 1."""
        return self.recent_overdue / self.recent_messages if self.recent_messages else 0.0

    @property
    def is_warning(self) -> bool:
        """Whether more are overdue than is usual."""
        return bool(self.recent_overdue) and self.recent_share >= _WARNING_SHARE


class OverdueCounter:
    """Counts the overdue messages of the database in `settings`, and keeps the last result. Any thread may read it."""

    def __init__(self, settings: Settings, background: Background) -> None:
        self._settings = settings
        self._status = OverdueStatus(after_seconds=settings.overdue_seconds)
        self._next_at = float("-inf")
        self._log = RateLimitedLog(log, interval_seconds=_LOG_SECONDS)
        self._ending = threading.Event()
        self._thread = background.make_thread(
            "overdue", self._count_if_due, every_seconds=_ROUND_SECONDS, ending=self._ending
        )

    @classmethod
    def if_used(cls, settings: Settings, background: Background) -> Self | None:
        """Return a counter if the handler `sql` is in use; without it nothing is known of any message."""
        return cls(settings, background) if "sql" in settings.handlers else None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop counting. A query that runs ends by itself."""
        self._ending.set()
        self._thread.join(_END_SECONDS)

    @property
    def status(self) -> OverdueStatus:
        """The last result."""
        return self._status

    def count(self) -> None:
        """Ask the database now."""
        try:
            self._status = _read(self._settings)
        except TablesUnavailable as exc:
            self._log.warning("overdue_not_counted", error=exc)
            self._status = msgspec.structs.replace(self._status, problem=str(exc))

    def _count_if_due(self) -> None:
        started_at = time.monotonic()
        if started_at < self._next_at:
            return
        try:
            self.count()
        finally:
            took_seconds = time.monotonic() - started_at
            self._next_at = time.monotonic() + max(_EVERY_SECONDS, took_seconds / _MAX_TIME_SHARE)


def _read(settings: Settings) -> OverdueStatus:
    try:
        with open_tables(settings) as connection:
            from workers.handlers.sql.overdue import count_overdue  # noqa: PLC0415 # an extra, which is there now

            found = count_overdue(connection, first_before=overdue_before(settings))
    except TablesEmpty:
        return OverdueStatus(after_seconds=settings.overdue_seconds, messages=0)
    return OverdueStatus(after_seconds=settings.overdue_seconds, **msgspec.structs.asdict(found))
