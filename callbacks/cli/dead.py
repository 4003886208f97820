"""`callbacks dead`: the dead letters, events that a handler gave up on.

They are kept for CALLBACKS_FAILURES_RETENTION_DAYS (30) days, if there is room.

`replay` delivers an event again to its own handler only, with a new set of attempts.
"""

from collections.abc import Sequence
from itertools import islice

import click
import msgspec

from callbacks.cli import failure_options, message_deliveries, paced_replay, terminal_text
from callbacks.cli.command import Command, Group
from callbacks.cli.numbers_option import numbers_option
from callbacks.cli.rate import Rate
from shared.counted import counted
from shared.did_you_mean import did_you_mean
from shared.events import to_unix_ms
from workers.admin import dead_letter_export, delivery_history, error_groups, replay_outcome
from workers.admin.delivery_history import DeliveryAttempt
from workers.admin.message_forms import Numbers, attempt_form, shown_number, to_plain
from workers.failures import iteration
from workers.failures.cursor import FailureFilter
from workers.failures.event_summary import summarize
from workers.failures.failure import DeadLetter, DeadLetterSummary
from workers.failures.failure_list import FailureList, dead_letters_of
from workers.failures.store import FailureStore
from workers.handlers.mask import mask_event


@click.group(cls=Group)
def dead() -> None:
    """List, show, export, replay or drop dead letters: events that a handler gave up on."""


@dead.command("list", cls=Command)
@click.argument("handler", required=False)
@failure_options.filter_options
@failure_options.paging_options
@numbers_option
@click.option(
    "--group",
    "by_error",
    is_flag=True,
    help="Count the newest 20,000 dead letters of HANDLER by error, with the first and last time.",
)
@failure_options.json_option
def list_letters(
    *,
    handler: str | None,
    wanted: FailureFilter,
    skip: int,
    limit: int,
    numbers: Numbers,
    by_error: bool,
    as_json: bool,
) -> None:
    """List the dead letters of HANDLER.

    Newest first; for each its id, when it was given up on, handler, attempts, message id, status, phone number and
    error. Without HANDLER, list how many each handler has.
    """
    with failure_options.open_failures() as (client, store, _):
        if handler is None:
            if by_error:
                raise click.UsageError("Give HANDLER: --group counts the dead letters of one handler.")
            if not wanted.matches_all:
                raise click.UsageError(
                    "Give HANDLER: --error, --since and --until filter the dead letters of one handler."
                )
            _list_handlers(store, as_json=as_json)
            return
        _require_list(store, handler)
        if by_error:
            for group in error_groups.read_groups(client, handler, wanted).groups:
                found = {
                    "error": group.error,
                    "dead": group.dead,
                    "oldest_at": group.oldest_at,
                    "newest_at": group.newest_at,
                    "newest_id": group.newest_id,
                }
                line = f"{group.dead:>9,}  {group.oldest_at}  {group.newest_at}  {terminal_text.short(group.error)}"
                click.echo(msgspec.json.encode(found) if as_json else line)
            return
        for row in islice(iteration.iterate_summaries(client, handler, wanted, skip=skip), limit):
            shown = msgspec.structs.replace(row, number=shown_number(row.number, numbers))
            click.echo(msgspec.json.encode(shown) if as_json else _as_line(shown))
        if not as_json:
            matching = (
                "" if wanted.matches_all else f"{iteration.count(client, dead_letters_of(handler), wanted):,} match; "
            )
            click.echo(f"{matching}{store.count(dead_letters_of(handler)):,} in total")


def _list_handlers(store: FailureStore, *, as_json: bool) -> None:
    sizes = {name: store.count(dead_letters_of(name)) for name in store.handler_names()}
    with_some = {name: size for name, size in sizes.items() if size}
    for name, size in with_some.items():
        click.echo(msgspec.json.encode({"handler": name, "dead": size}) if as_json else f"{size:>9,}  {name}")
    if not as_json:
        click.echo("`callbacks dead list NAME` shows them." if with_some else "No dead letters.")


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("event_id", metavar="ID")
@numbers_option
@failure_options.json_option
def show(*, handler: str, event_id: str, numbers: Numbers, as_json: bool) -> None:
    """Show one dead letter.

    Its message, each attempt to deliver it, the event, and what the handler raised.

    Phone numbers and texts are masked. `--numbers full --json` prints the event as `handlers try --event -` takes it.
    """
    with failure_options.open_failures() as (client, store, _):
        letter = _shown(store.read_dead_letter(handler, event_id), numbers)
        received_ms = to_unix_ms(letter.event.received_at)
        attempts = delivery_history.read_attempts(client, letter.id, handler, received_ms=received_ms)
    if as_json:
        click.echo(_as_json(letter, attempts))
        return
    which = summarize(letter.event)
    for label, value in (
        ("handler", letter.handler),
        ("died", letter.died_at),
        ("attempts", str(letter.attempts)),
        ("message", which["message_id"]),
        ("status", "reply" if which["kind"] == "reply" else which["status"]),
        ("trace", letter.trace_id),
        ("error", letter.error),
    ):
        if value:
            click.echo(f"{label:10}{terminal_text.short(value)}")
    for line in message_deliveries.attempt_lines(attempts):
        click.echo(f"{'':10}{line}")
    click.echo(f"\n{letter.event.to_json()}\n\n{letter.traceback}".rstrip())


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.filter_options
@numbers_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
def export(*, handler: str, ids: tuple[str, ...], wanted: FailureFilter, numbers: Numbers, as_csv: bool) -> None:
    """Print dead letters of HANDLER as JSON lines or CSV.

    All, or those of the ids; newest first, without a limit. Phone numbers and texts are masked. With `--numbers full`
    each line has the whole event too, and the error as the handler raised it.
    """
    with failure_options.open_failures() as (client, store, _):
        _require_list(store, handler)
        letters = iteration.iterate_letters(client, handler, wanted, ids=ids)
        for line in dead_letter_export.iterate_lines(letters, as_csv=as_csv, is_full=numbers == "full"):
            click.echo(line, nl=False)


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.all_option
@failure_options.filter_options
@click.option("--rate", "per_second", type=Rate(), help="How many at most: 50/s or 300/m.")
@failure_options.json_option
def replay(
    *,
    handler: str,
    ids: tuple[str, ...],
    select_all: bool,
    wanted: FailureFilter,
    per_second: float | None,
    as_json: bool,
) -> None:
    """Deliver dead letters to HANDLER again, with a new set of attempts.

    Those of the ids, or all; --error, --since and --until narrow that down, and without ids stand for all that match.
    With --rate the page Actions shows the progress too, and can stop and resume it; it waits while HANDLER is paused.
    """
    failure_options.require_selection(ids, wanted, select_all=select_all)
    with failure_options.open_failures() as failures:
        failure_list = _require_list(failures.store, handler)
        if per_second is not None:
            paced_replay.run(failures, failure_list, ids, wanted, per_second=per_second, as_json=as_json)
        selection = failure_options.select(failures, failure_list, ids, wanted)
        failure_options.run_on(failures, "replay", failure_list, selection, as_json=as_json)


@dead.command(cls=Command)
@click.argument("action_id", metavar="ACTION")
@failure_options.json_option
def outcome(*, action_id: str, as_json: bool) -> None:
    """Show what became of the dead letters that ACTION replayed.

    How many were delivered, are dead again, or still wait.

    ACTION is the id that `callbacks dead replay` printed, or that of a replay on the operators' page, of the last 24
    hours.
    """
    with failure_options.open_failures() as failures:
        action = failures.action_log.find(action_id)
        found = None if action is None else replay_outcome.read_outcome(failures.connection, action)
    if found is None:
        raise click.ClickException(
            f"no replay of dead letters in the last 24 hours has the id {action_id!r}; "
            "use the id that `callbacks dead replay` printed, or that on the page Actions"
        )
    click.echo(msgspec.json.encode(found) if as_json else found.text)


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.all_option
@failure_options.filter_options
@failure_options.yes_option
@failure_options.json_option
def drop(
    *, handler: str, ids: tuple[str, ...], select_all: bool, wanted: FailureFilter, yes: bool, as_json: bool
) -> None:
    """Drop dead letters of HANDLER permanently.

    `callbacks dead export`, with the same options, keeps a copy of them.

    Those of the ids, or all; --error, --since and --until narrow that down, and without ids stand for all that match.
    """
    failure_options.require_selection(ids, wanted, select_all=select_all)
    with failure_options.open_failures() as failures:
        failure_list = _require_list(failures.store, handler)
        selection = failure_options.select(failures, failure_list, ids, wanted)
        if not yes:
            letters = counted(failure_options.selection_size(selection), "dead letter")
            click.confirm(
                f"Drop {letters} of {handler!r} permanently? `callbacks dead export` keeps a copy.",
                abort=True,
                err=True,
            )
        failure_options.run_on(failures, "drop", failure_list, selection, as_json=as_json)


def _as_line(row: DeadLetterSummary) -> str:
    status = "reply" if row.kind == "reply" else row.status or "-"
    which = (row.message_id or "-", status, row.number or "-")
    texts = (row.id, row.died_at, row.handler, counted(row.attempts, "attempt"), *which, row.error)
    return "  ".join(map(terminal_text.short, texts))


def _require_list(store: FailureStore, handler: str) -> FailureList:
    known = store.handler_names()
    if handler not in known:
        meant = did_you_mean(handler, known)
        there = ", ".join(known) or "none"
        raise click.UsageError(f"No handler {handler!r} has had an event{meant}; there are: {there}.")
    return dead_letters_of(handler)


def _shown(letter: DeadLetter, numbers: Numbers) -> DeadLetter:
    if numbers == "full":
        return msgspec.structs.replace(letter, error=letter.whole_error, traceback=letter.whole_traceback)
    return msgspec.structs.replace(letter, event=mask_event(letter.event))


def _as_json(letter: DeadLetter, attempts: Sequence[DeliveryAttempt]) -> bytes:
    fields = msgspec.structs.asdict(letter) | {"event": msgspec.Raw(letter.event.to_json().encode())}
    shown = {name: value for name, value in fields.items() if not name.startswith("whole_")}
    return msgspec.json.encode(shown | {"delivery_log": to_plain(list(map(attempt_form, attempts)))})
