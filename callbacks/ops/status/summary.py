"""How the service is in one line: the heading of the page *Now*, its title and its icon."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from callbacks.ops.status.alerts import Alert
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.cell_rows import CellRow
from shared.counted import counted

SummaryLevel: TypeAlias = Literal["good", "warn", "bad", "unsure"]


class StatusSummary(Struct, frozen=True):
    """The worst that is known, in words that stand alone."""

    level: SummaryLevel
    words: str

    @property
    def sign(self) -> str:
        """The level as a character, for those who do not see its colour."""
        return _SIGNS[self.level]

    @property
    def icon(self) -> str:
        """The file in callbacks/ops/html/static that shows the level in a browser's tab."""
        return _ICONS.get(self.level, "icon.svg")


def summarize(alerts: Sequence[Alert], balance: Balance | None) -> StatusSummary:
    """Return the summary for what is wrong, and the last result of the audit."""
    bad = sum(alert.level == "bad" for alert in alerts)
    if bad:
        return StatusSummary("bad", f"{counted(bad, 'problem needs', 'problems need')} action now")
    if alerts:
        return StatusSummary("warn", f"Working, with {counted(len(alerts), 'warning')}")
    if balance is not None and balance.balances:
        return StatusSummary("good", "Working")
    return StatusSummary("unsure", "Working, but the audit has no result yet")


def summarize_cells(rows: Sequence[CellRow], own: StatusSummary) -> StatusSummary:
    """Return the summary of all cells, or `own`, that of a Redis that is no cell, if it is worse."""
    bad = sum(row.state in ("unavailable", "problems") for row in rows)
    warned = sum(row.state == "warnings" for row in rows)
    if bad:
        words = f"{bad} of {counted(len(rows), 'cell')} {'needs' if bad == 1 else 'need'} action now"
        found = StatusSummary("bad", words)
    elif warned:
        words = f"{warned} of {counted(len(rows), 'cell')} {'has' if warned == 1 else 'have'} warnings"
        found = StatusSummary("warn", words)
    else:
        found = StatusSummary("good", f"All of {counted(len(rows), 'cell')} working")
    return max(found, own, key=lambda one: _SEVERITY.index(one.level))


REDIS_UNAVAILABLE: Final = StatusSummary("bad", "Redis does not answer")
REDIS_UNREADABLE: Final = StatusSummary("bad", "Redis cannot be read")

# On a tie the first of two counts.
_SEVERITY: Final[tuple[SummaryLevel, ...]] = ("good", "unsure", "warn", "bad")
_SIGNS: Final[dict[SummaryLevel, str]] = {"good": "✓", "warn": "!", "bad": "✗", "unsure": "○"}
_ICONS: Final[dict[SummaryLevel, str]] = {"warn": "icon-warn.svg", "bad": "icon-bad.svg"}
