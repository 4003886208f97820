"""`callbacks forget`: erase people's numbers and texts from every store."""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, BinaryIO, Final

import click
import msgspec
import redis

from callbacks.cli import failure_options, person_numbers, person_stores
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared.counted import counted
from shared.number_search import NumberSearch
from shared.settings import Settings
from workers.admin import action_log
from workers.admin.action_log import Action, ActionLog, ActionProgress
from workers.expand import forgotten
from workers.personal_data import erasure
from workers.personal_data.report import StoreResult, timed
from workers.personal_data.run_marks import RunMarks
from workers.personal_data.stores import NOT_REACHED

# As long as a mark may live: until then a repeat is recognised.
_DEDUPE_TIMES: Final = 1.6


@click.command(cls=Command)
@click.argument("numbers", metavar="NUMBER", nargs=-1)
@click.option(
    "--from-file", "file", type=click.File("rb"), help="Also the numbers in this file, one a line; - for input."
)
@click.option("--dry-run", is_flag=True, help="Count only.")
@failure_options.json_option
def forget(*, numbers: tuple[str, ...], file: BinaryIO | None, dry_run: bool, as_json: bool) -> None:
    """Erase all that mentions NUMBER, in any spelling, from every store of this service.

    That is each report to NUMBER, each reply from it, and what else names it. Other records of the same callback stay.
    What is still under way is erased before it is delivered, and the audit counts it as forgotten.

    It is safe while the service runs. If it is interrupted, run it again: it continues. Exit code 1 if something is
    left, or could not be searched. docs/privacy.md has the table of stores.
    """
    lines = () if file is None else person_numbers.read_lines(file.read())
    search = person_numbers.parse(numbers, lines)
    if not search.numbers:
        raise click.UsageError("Name a NUMBER, or a file with --from-file.")
    with open_redis() as (loaded, client):
        results: list[StoreResult] = []
        marks = None if dry_run else RunMarks(client)
        steps = _erase(loaded, client, search, marks)
        with nullcontext(ActionProgress()) if dry_run else ActionLog(client).record(_action(search)) as progress:
            for result in steps:
                results.append(result)
                progress.done += result.erased
                progress.failed += result.left + result.unreadable
        is_complete = all(result.is_complete for result in results)
        # What cannot be read was not erased either, so there is nothing for a later run to overwrite.
        if marks is not None and not any(result.left or result.failed for result in results):
            marks.end()
    if as_json:
        click.echo(msgspec.json.encode(_to_json(search, results, dry_run=dry_run, is_complete=is_complete)))
    else:
        click.echo("\n".join(_to_text(results, dry_run=dry_run)))
    sys.exit(0 if is_complete else 1)


def _action(search: NumberSearch) -> Action:
    return Action(
        who=action_log.command_line_user(),
        by="command",
        what="forget",
        where="people",
        chosen=counted(len(search.numbers), "number"),
    )


def _erase(
    loaded: Settings, client: redis.Redis, search: NumberSearch, marks: RunMarks | None
) -> Iterator[StoreResult]:
    """Erase from all stores, and yield each result, in the direction in which events move.

    What has left the spool before that was searched is found in Redis, or was dropped there. Without `marks`, it is a
    dry run.
    """
    dry_run = marks is None
    resumes = marks is not None and marks.begin()
    others = person_stores.handler_stores(loaded, search, resumes=resumes)
    if marks is not None:
        # First, so that nothing new is made of what still arrives.
        forgotten.remember(client, search.numbers, seconds=math.ceil(_DEDUPE_TIMES * loaded.dedupe_seconds))
    for spool in person_stores.spools(loaded, search):
        yield timed(partial(spool.erase, dry_run=dry_run))
    yield from erasure.erase_until_clean(person_stores.moving_stores(client, search), dry_run=dry_run)
    for store in others:
        if marks is not None:
            marks.renew()
        yield timed(partial(store.erase, dry_run=dry_run))
    for own in person_stores.own_stores(loaded, search):
        yield own if isinstance(own, StoreResult) else timed(partial(own.erase, dry_run=dry_run))
    if marks is not None:
        # Also if nothing was found: an earlier run may have been interrupted before this.
        yield from person_stores.rewrite_redis_files(loaded)


def _to_json(
    search: NumberSearch, results: Sequence[StoreResult], *, dry_run: bool, is_complete: bool
) -> dict[str, Any]:
    return {
        "numbers": len(search.numbers),
        "dry_run": dry_run,
        "complete": is_complete,
        "stores": [msgspec.structs.asdict(result) for result in results],
        "not_reached": NOT_REACHED,
    }


def _to_text(results: Sequence[StoreResult], *, dry_run: bool) -> Iterator[str]:
    yield f"{'store':10}  {'found':>9}  {'erased':>9}  {'left':>9}  {'seconds':>7}"
    for result in results:
        why = f"  {result.why}" if result.why else ""
        counts = f"{result.found:>9,}  {result.erased:>9,}  {result.left:>9,}  {result.seconds:>7.1f}"
        yield f"{result.store:10}  {counts}{why}"
    yield ""
    if dry_run:
        yield "Nothing was changed: --dry-run."
    else:
        yield "Not reached:"
        yield from (f"  {each}" for each in NOT_REACHED)
    if not all(result.is_complete for result in results):
        yield "Something is left, or could not be searched: see above, then run this again."
