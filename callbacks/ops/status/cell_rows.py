"""A line for each cell: its state and its alerts, for *Now* and `callbacks top`. It knows no HTML."""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import redis
from msgspec import Struct

from callbacks.ops.status import alerts, service_status
from callbacks.ops.status.alerts import Alert
from callbacks.ops.status.audit_cache import AuditCache, Balance
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from shared.cells_reader import CellReading, CellsReader
from shared.settings import Settings

CellState: TypeAlias = Literal["unavailable", "problems", "warnings", "working"]

# Reading a status takes milliseconds. The lines of the other cells wait for this one.
_TIMEOUT_SECONDS: Final = 2.0


class CellRow(Struct, frozen=True, kw_only=True):
    """What is said of a cell among others; `problem` is why nothing else is known of it."""

    cell: str
    redis_url: str
    problem: str = ""
    alerts: tuple[Alert, ...] = ()
    callbacks_per_second: float = 0.0
    waiting: int = 0
    dead: int = 0
    quarantined: int = 0
    balance: Balance | None = None

    @property
    def state(self) -> CellState:
        """Its state in one word; the worst that applies."""
        if self.problem:
            return "unavailable"
        if any(alert.level == "bad" for alert in self.alerts):
            return "problems"
        return "warnings" if self.alerts else "working"


def open_reader(settings: Settings) -> CellsReader[ServiceStatus]:
    """Return a reader of the status of each cell."""

    def open_status(client: redis.Redis) -> Callable[[], ServiceStatus]:
        audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)
        return lambda: service_status.read_status(client, settings, audit_cache)

    return CellsReader(settings.cells, open_status, timeout_seconds=_TIMEOUT_SECONDS)


def to_row(reading: CellReading[ServiceStatus]) -> CellRow:
    """Return the line of a cell."""
    now = reading.value
    if now is None:
        return CellRow(cell=reading.cell, redis_url=reading.redis_url, problem=reading.problem)
    return CellRow(
        cell=reading.cell,
        redis_url=reading.redis_url,
        alerts=alerts.find_alerts(now),
        callbacks_per_second=now.callbacks_per_second,
        waiting=sum(handler.waiting for handler in now.handlers),
        dead=sum(handler.dead for handler in now.handlers),
        quarantined=now.quarantined,
        balance=now.balance,
    )
