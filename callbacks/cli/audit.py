"""`callbacks audit`: whether everything received is in exactly one place. Exit 0 if it balances, 1 if not."""

import sys

import click
import msgspec

from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared import audit as sums_of
from shared.counted import counted


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit(*, as_json: bool) -> None:
    """Check that everything received is in exactly one place.

    It counts records; a callback may carry several. It balances if

    each record received is new, a duplicate, quarantined, dropped, or waiting to be expanded,

    and each event queued for a handler is delivered, a dead letter, dropped, or waiting.

    While events move it may not balance: run it again when nothing moves.
    """
    with open_redis() as (_, client):
        sums = sums_of.run(client)
    click.echo(msgspec.json.encode(sums.as_json()) if as_json else _as_text(sums))
    sys.exit(0 if sums.balances else 1)


def _as_text(sums: sums_of.Audit) -> str:
    lines = [
        f"{sums.received:>12,}  received",
        f"{sums.unique:>12,}  new: events",
        f"{sums.duplicate:>12,}  duplicate",
        f"{sums.quarantined:>12,}  quarantined",
        f"{sums.dropped:>12,}  dropped",
        f"{sums.waiting:>12,}  waiting to be expanded",
    ]
    for handler in sums.handlers:
        lines += [
            f"{handler.handler}:",
            f"{handler.queued:>12,}  queued",
            f"{handler.delivered:>12,}  delivered",
            f"{handler.dead:>12,}  dead letters",
            f"{handler.dropped:>12,}  dropped",
            f"{handler.waiting:>12,}  waiting",
        ]
    if sums.balances:
        lines.append("It balances.")
    else:
        lines.append(f"It does not balance: {counted(sums.missing, 'record')} unaccounted for before the handlers.")
        lines += [
            f"  {counted(h.missing, 'event')} unaccounted for at {h.handler!r}." for h in sums.handlers if h.missing
        ]
        if sums.moving:
            lines.append("Events moved during the audit, so this may mean nothing: run it again when nothing moves.")
    return "\n".join(lines)
