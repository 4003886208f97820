"""`callbacks handlers try`: call a handler with events, in this process: without queue, Redis and worker."""

import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, BinaryIO, TextIO

import click
import msgspec

from callbacks import samples
from callbacks.cli import failure_options, terminal_text
from callbacks.cli.command import Command
from callbacks.cli.sample_name import SampleName
from shared import logs, settings
from shared.events import Event
from workers.admin import event_input, filter_explanation, handler_catalog
from workers.admin.event_input import NoEvents
from workers.declaration import Handler
from workers.deliver.call.caller import Caller
from workers.deliver.call.dry_run import DryRun, dry_run, not_ready
from workers.deliver.call.lifespan import LifespanFailed


@click.command("try", cls=Command)
@click.argument("name", metavar="NAME")
@click.option(
    "--event", "file", type=click.File("rb"), metavar="FILE", help="A file of events, or - for standard input."
)
@click.option(
    "--sample", type=SampleName(), metavar="KIND", help="A sample event, such as delivered, undelivered, reply."
)
@click.option(
    "--from", "source", metavar="MODULE", help="The module that declares it, if CALLBACKS_HANDLERS does not name it."
)
@click.option("--force", is_flag=True, help="Call it also with events that its filters leave out.")
@failure_options.json_option
def try_handler(
    *, name: str, file: BinaryIO | None, sample: str | None, source: str | None, force: bool, as_json: bool
) -> None:
    """Call the handler NAME with an event, in this process.

    There is no queue, no Redis and no retry, but what the handler does is real. The event is a sample, or comes from a
    file: lines of event.to_json() (as the handler `log` writes), the output of `callbacks dead show HANDLER ID --json
    --numbers full`, or the body of a callback as the gateway posts it.

    Exit 0 if every event was done; 1 if one failed, was rejected, asked for a retry or a pause, or was left out by the
    filters.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("Give either --sample KIND or --event FILE.")
    events = [samples.one(sample)] if sample is not None else _read_events(file)
    handler = handler_catalog.find_handler(name, settings.load(process="command").handlers, source=source)
    logs.configure()
    filtered_out = [
        (event, list(filter_explanation.explain(handler, event))) for event in events if not handler.wants(event)
    ]
    events_to_call = list(events) if force else [event for event in events if handler.wants(event)]
    for event, reasons in filtered_out:
        _print_filtered(event, reasons, force=force, as_json=as_json)
    all_done = force or not filtered_out
    for result, printed in _call(handler, events_to_call, quiet=as_json):
        all_done = all_done and result.outcome == "done"
        click.echo(_result_json(result, printed) if as_json else _result_text(handler, result))
    sys.exit(0 if all_done else 1)


def _read_events(file: BinaryIO | None) -> Sequence[Event]:
    if file is None:
        return []
    try:
        return event_input.parse(file.read())
    except NoEvents as exc:
        raise click.UsageError(
            f"{file.name}: no event can be read: {terminal_text.short(str(exc))}. It takes lines of event.to_json(), "
            "the output of `callbacks dead show HANDLER ID --json --numbers full`, or the body of a callback."
        ) from exc


def _call(handler: Handler, events: Sequence[Event], *, quiet: bool) -> Iterator[tuple[DryRun, str]]:
    """Call the handler and yield each result; with `quiet`, together with what it printed, which is not shown then."""
    if not events:
        return
    with ExitStack() as stack:
        # A file, as a handler may use the buffer and the file descriptor of sys.stdout.
        file = stack.enter_context(tempfile.TemporaryFile())
        printed = stack.enter_context(io.TextIOWrapper(file, "utf-8", "backslashreplace", write_through=True))
        try:
            with _redirect_output(printed if quiet else None):
                caller = stack.enter_context(Caller(handler))
        except LifespanFailed as exc:
            yield not_ready(exc, events), _pop_text(printed)
            return
        results = dry_run(caller, events)
        while True:
            with _redirect_output(printed if quiet else None):
                result = next(results, None)
            if result is None:
                return
            yield result, _pop_text(printed)


@contextmanager
def _redirect_output(to: TextIO | None) -> Iterator[None]:
    """Redirect what is printed; None: do not."""
    if to is None:
        yield
        return
    with redirect_stdout(to), redirect_stderr(to):
        yield


def _pop_text(printed: TextIO) -> str:
    """Return what was printed since the last call."""
    printed.flush()
    file = printed.buffer
    file.seek(0)
    text = file.read().decode(errors="replace")
    file.seek(0)
    file.truncate()
    return text


def _print_filtered(event: Event, reasons: Sequence[str], *, force: bool, as_json: bool) -> None:
    if as_json:
        if not force:
            click.echo(
                msgspec.json.encode({"events": [event.id], "outcome": "filtered", "sentence": "; ".join(reasons)})
            )
        return
    click.echo(f"{_describe_event(event)}: left out by its filters: {terminal_text.printable('; '.join(reasons))}")
    click.echo("    Called anyway: --force." if force else "    `--force` calls it anyway.")


def _result_text(handler: Handler, result: DryRun) -> str:
    what = _describe_event(result.events[0]) if len(result.events) == 1 else f"a batch of {len(result.events)} events"
    mark = "✓" if result.outcome == "done" else "✗"
    line = f"{mark} {handler.name}, {what}: {terminal_text.printable(result.sentence)} ({result.seconds:.3f} s)"
    consequence = f"\n    {result.consequence}" if result.consequence else ""
    return f"{line}{consequence}\n\n{result.traceback}".rstrip()


def _describe_event(event: Event) -> str:
    text = f"{event.kind} {event.id}"
    return f"{text} ({terminal_text.short(event.status)})" if event.kind == "report" else text


def _result_json(result: DryRun, printed: str) -> bytes:
    fields: dict[str, Any] = {
        "events": [event.id for event in result.events],
        "outcome": result.outcome,
        "sentence": result.sentence,
        "consequence": result.consequence or None,
        "seconds": round(result.seconds, 6),
        "printed": printed,
        "traceback": result.traceback or None,
    }
    return msgspec.json.encode(fields)
