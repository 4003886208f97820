"""`callbacks audit`: whether everything received is in exactly one place. Exit 0 if it balances, 1 if not.

With CALLBACKS_CELLS each cell is audited, and their sum is printed last.
"""

import sys
from collections.abc import Iterator

import click
import msgspec

from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared import audit as sums_of
from shared import cell_audits, settings
from shared.cell_audits import CellAudits
from shared.cells import Cell
from shared.counted import counted


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit(*, as_json: bool) -> None:
    """Check that everything received is in exactly one place.

    It counts records; a callback may carry several. It balances if

    each record received is new, a duplicate, quarantined, dropped, forgotten, or waiting to be expanded,

    and each event queued for a handler is delivered, a dead letter, dropped, forgotten, or waiting.

    Forgotten is what `callbacks forget` erased before it was delivered.

    While events move it may not balance: run it again when nothing moves.

    With CALLBACKS_CELLS it prints each cell and then their sum; a cell that cannot be read is named, with exit code 1.
    """
    cells = settings.load(process="cells").cells
    sums = _audit_cells(cells) if cells else _audit_one()
    if as_json:
        click.echo(msgspec.json.encode(sums.as_json()))
    else:
        click.echo("\n".join(_cells_text(sums) if isinstance(sums, CellAudits) else _text(sums)))
    sys.exit(0 if sums.balances else 1)


def _audit_one() -> sums_of.Audit:
    with open_redis("cells") as (_, client):
        return sums_of.run(client)


def _audit_cells(cells: tuple[Cell, ...]) -> CellAudits:
    reader = cell_audits.open_reader(cells)
    try:
        return CellAudits(reader.read())
    finally:
        reader.close()


def _cells_text(found: CellAudits) -> Iterator[str]:
    for one in found.cells:
        yield f"cell {one.cell}, {one.redis_url}:"
        if one.value is None:
            yield f"unavailable: {one.problem}"
        else:
            yield from _text(one.value)
        yield ""
    audited = f"{len(found.cells) - len(found.unavailable)} of " if found.unavailable else ""
    yield f"{audited}{counted(len(found.cells), 'cell')} together:"
    yield from _totals(found.total)
    if found.balances:
        yield "It balances, in each cell."
    if found.unbalanced:
        yield f"It does not balance in {', '.join(found.unbalanced)}."
    if found.unavailable:
        yield f"Unavailable, and not in the sum: {', '.join(found.unavailable)}."


def _text(sums: sums_of.Audit) -> Iterator[str]:
    yield from _totals(sums)
    if sums.balances:
        yield "It balances."
        return
    yield f"It does not balance: {counted(sums.missing, 'record')} unaccounted for before the handlers."
    for handler in sums.handlers:
        if handler.missing:
            yield f"  {counted(handler.missing, 'event')} unaccounted for at {handler.handler!r}."
    if sums.moving:
        yield "Events moved during the audit, so this may mean nothing: run it again when nothing moves."


def _totals(sums: sums_of.Audit) -> Iterator[str]:
    yield f"{sums.received:>12,}  received"
    yield f"{sums.unique:>12,}  new: events"
    yield f"{sums.duplicate:>12,}  duplicate"
    yield f"{sums.quarantined:>12,}  quarantined"
    yield f"{sums.dropped:>12,}  dropped"
    if sums.forgotten:
        yield f"{sums.forgotten:>12,}  forgotten"
    yield f"{sums.waiting:>12,}  waiting to be expanded"
    for handler in sums.handlers:
        yield f"{handler.handler}:"
        yield f"{handler.queued:>12,}  queued"
        yield f"{handler.delivered:>12,}  delivered"
        yield f"{handler.dead:>12,}  dead letters"
        yield f"{handler.dropped:>12,}  dropped"
        if handler.forgotten:
            yield f"{handler.forgotten:>12,}  forgotten"
        yield f"{handler.waiting:>12,}  waiting"
