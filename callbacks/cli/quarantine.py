"""`callbacks quarantine`: authentic callbacks that could not be read.

They are kept as received for CALLBACKS_FAILURES_RETENTION_DAYS (30) days, if there is room.

`replay` processes one like every callback, so one that was delivered meanwhile counts as a duplicate.
"""

from itertools import islice

import click
import msgspec

from callbacks.cli import failure_options, terminal_text
from callbacks.cli.command import Command, Group
from callbacks.cli.numbers_option import numbers_option
from shared.counted import counted
from workers.admin.message_forms import Numbers
from workers.failures import iteration
from workers.failures.cursor import FailureFilter
from workers.failures.failure_list import QUARANTINE


@click.group(cls=Group)
def quarantine() -> None:
    """List, show, replay or drop callbacks that could not be read."""


@quarantine.command("list", cls=Command)
@failure_options.filter_options
@failure_options.paging_options
@failure_options.json_option
def list_callbacks(*, wanted: FailureFilter, skip: int, limit: int, as_json: bool) -> None:
    """List the quarantine, newest first."""
    with failure_options.open_failures() as (client, store, _):
        for row in islice(iteration.iterate_quarantine(client, wanted, skip=skip), limit):
            if as_json:
                click.echo(msgspec.json.encode(msgspec.structs.asdict(row) | {"kind": row.kind_name}))
            else:
                error = terminal_text.short(row.error)
                click.echo(f"{row.id}  {row.received_at}  {row.source}  {row.kind_name:<7}  {error}")
        if not as_json:
            matching = "" if wanted.matches_all else f"{iteration.count(client, QUARANTINE, wanted):,} match; "
            click.echo(f"{matching}{store.count(QUARANTINE):,} in total")


@quarantine.command(cls=Command)
@click.argument("failure_id", metavar="ID")
@numbers_option
@failure_options.json_option
def show(*, failure_id: str, numbers: Numbers, as_json: bool) -> None:
    """Show one callback: what is wrong with it, and its body.

    The body as received, with `--numbers full` only: nothing is known of what an unreadable one holds.
    """
    with failure_options.open_failures() as (_, store, _):
        callback = store.read_quarantined(failure_id)
    is_full = numbers == "full"
    if as_json:
        # A body may not be text; other bytes become U+FFFD here, and are printed unchanged without --json.
        text = callback.body.decode(errors="replace") if is_full else None
        fields = msgspec.structs.asdict(callback) | {"kind": callback.kind_name, "body": text}
        click.echo(msgspec.json.encode(fields))
        return
    click.echo(f"received  {callback.received_at}\nsource    {callback.source}\nkind      {callback.kind_name}")
    click.echo(f"records   {callback.records}\nanswered  {callback.answered}")
    if callback.repeats:
        click.echo(f"repeats   {callback.repeats:,}, the last at {callback.last_at}")
    for name, value in callback.headers.items():
        click.echo(f"header    {name}: {terminal_text.short(value)}")
    click.echo(f"error     {terminal_text.short(callback.error)}\n")
    if callback.traceback:
        click.echo(f"{callback.traceback}\n")
    size = counted(len(callback.body), "byte")
    click.echo(callback.body if is_full else f"body      {size}: --numbers full shows it")


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.all_option
@failure_options.filter_options
@failure_options.json_option
def replay(*, ids: tuple[str, ...], select_all: bool, wanted: FailureFilter, as_json: bool) -> None:
    """Process callbacks again. One that still cannot be read stays."""
    failure_options.require_selection(ids, wanted, select_all=select_all)
    with failure_options.open_failures() as failures:
        selection = failure_options.select(failures, QUARANTINE, ids, wanted)
        failure_options.run_on(failures, "replay", QUARANTINE, selection, as_json=as_json)


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.all_option
@failure_options.filter_options
@failure_options.yes_option
@failure_options.json_option
def drop(*, ids: tuple[str, ...], select_all: bool, wanted: FailureFilter, yes: bool, as_json: bool) -> None:
    """Drop callbacks permanently."""
    failure_options.require_selection(ids, wanted, select_all=select_all)
    with failure_options.open_failures() as failures:
        selection = failure_options.select(failures, QUARANTINE, ids, wanted)
        if not yes:
            click.confirm(
                f"Drop {counted(failure_options.selection_size(selection), 'callback')} permanently?",
                abort=True,
                err=True,
            )
        failure_options.run_on(failures, "drop", QUARANTINE, selection, as_json=as_json)
