"""The text that `callbacks top` prints for several cells: a line for each, then what needs attention in it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from callbacks.cli.terminal_text import printable
from callbacks.ops.status import quantities
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.cell_rows import CellRow
from shared.counted import counted

_STYLES: Final = {"unavailable": "bold red", "problems": "bold red", "warnings": "yellow", "working": "green"}
_FAINT: Final = "dim"


def render_cells(rows: Sequence[CellRow]) -> RenderableType:
    """Return the table of cells and their alerts. `callbacks top --cell NAME` shows all of one."""
    now = datetime.now(UTC)
    return Group(
        Rule(f"callbacks  {now:%H:%M:%S} UTC  {counted(len(rows), 'cell')}", style=_FAINT), _table(rows), *_alerts(rows)
    )


def _table(rows: Sequence[CellRow]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_FAINT)
    table.add_column("cell", overflow="fold", min_width=8)
    table.add_column("state", no_wrap=True)
    for name in ("callbacks/s", "waiting", "dead", "quarantine"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("audit", no_wrap=True)
    for row in rows:
        numbers = (
            [quantities.UNKNOWN] * 4
            if row.problem
            else [f"{row.callbacks_per_second:,.1f}", f"{row.waiting:,}", f"{row.dead:,}", f"{row.quarantined:,}"]
        )
        table.add_row(Text(row.cell), Text(row.state, style=_STYLES[row.state]), *numbers, _audit(row.balance))
    return table


def _audit(balance: Balance | None) -> Text:
    if balance is None:
        return Text("unknown", style=_FAINT)
    if balance.balances:
        return Text("balances", style="green")
    if balance.moving:
        return Text("changing", style=_FAINT)
    return Text(f"{balance.difference:,} unaccounted", style="bold red")


def _alerts(rows: Sequence[CellRow]) -> Iterator[Text]:
    for row in rows:
        if row.problem:
            yield Text(f"{row.cell}: {printable(row.problem)}", style="bold red")
        for alert in row.alerts:
            yield Text(f"{row.cell}: {printable(alert.text)}", style="bold red" if alert.level == "bad" else "yellow")
