"""The audits of several cells, and their sum.

A callback is received by one cell and stays there, so each cell balances for itself, and with them the sum.
"""

from collections.abc import Callable, Sequence
from typing import Any

import redis
from msgspec import Struct

from shared import audit, connections
from shared.audit import Audit, HandlerTotals, RecordTotals
from shared.cells import Cell
from shared.cells_reader import CellReading, CellsReader


class CellAudits(Struct, frozen=True):
    """A reading of the audit of each cell."""

    cells: tuple[CellReading[Audit], ...]

    @property
    def unavailable(self) -> tuple[str, ...]:
        """The names of the cells that could not be audited; the sum is without them."""
        return tuple(one.cell for one in self.cells if one.value is None)

    @property
    def unbalanced(self) -> tuple[str, ...]:
        """The names of the cells whose own audit does not balance."""
        return tuple(one.cell for one in self.cells if one.value is not None and not one.value.balances)

    @property
    def balances(self) -> bool:
        """Whether each cell was audited and balances. What one has too much does not make up for another's loss."""
        return not self.unavailable and not self.unbalanced

    @property
    def total(self) -> Audit:
        """The sum over the cells that were audited."""
        sums = [one.value for one in self.cells if one.value is not None]
        handlers = [handler for audited in sums for handler in audited.handlers]
        return Audit(
            records={kind: _add(RecordTotals, [audited.records[kind] for audited in sums]) for kind in audit.KINDS},
            waiting=sum(audited.waiting for audited in sums),
            moving=any(audited.moving for audited in sums),
            handlers=tuple(
                _add(HandlerTotals, [one for one in handlers if one.handler == name], handler=name)
                for name in dict.fromkeys(handler.handler for handler in handlers)
            ),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the sum as the audit of one Redis is written, then the audit of each cell."""
        return self.total.as_json() | {
            "balances": self.balances,
            "unavailable": list(self.unavailable),
            "cells": [
                {"cell": one.cell, "redis_url": one.redis_url}
                | ({"error": one.problem} if one.value is None else one.value.as_json())
                for one in self.cells
            ],
        }


def open_reader(cells: Sequence[Cell], *, max_jobs: int | None = None) -> CellsReader[Audit]:
    """Return a reader that audits each cell; one that has more than `max_jobs` jobs is not audited.

    Without `max_jobs` an audit takes as long as it takes: some 50 µs for each job that waits.
    """

    def open_audit(client: redis.Redis) -> Callable[[], Audit]:
        return lambda: audit.run(client, max_jobs=max_jobs)

    return CellsReader(
        cells, open_audit, timeout_seconds=connections.WORKER_TIMEOUT_SECONDS, is_unlimited=max_jobs is None
    )


def _add(totals: Any, parts: Sequence[Struct], **fixed: str) -> Any:
    """Return the sum of `parts`, field by field, but for those that are `fixed`."""
    summed = {
        field: sum(getattr(part, field) for part in parts) for field in totals.__struct_fields__ if field not in fixed
    }
    return totals(**fixed, **summed)
