"""`callbacks handlers`: which handlers there are and how they are; one tried by hand, turned off, emptied, removed."""

import sys

import click
import redis

from callbacks.cli import failure_options, handlers_table
from callbacks.cli.command import Command
from callbacks.cli.handlers_queue import drain, pause_handler, purge, resume_handler
from callbacks.cli.handlers_try import try_handler
from shared import connections, settings
from workers.admin import handler_catalog
from workers.admin.handler_states import HandlerState, read_states


@click.group(invoke_without_command=True)
@failure_options.json_option
@click.pass_context
def handlers(ctx: click.Context, *, as_json: bool) -> None:
    """Handlers: which there are and what waits for each; try one, turn it off and on, empty it."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_handlers, as_json=as_json)


@handlers.command("list", cls=Command)
@failure_options.json_option
def list_handlers(*, as_json: bool) -> None:
    """List all handlers.

    Those that CALLBACKS_HANDLERS names, those that are installed and not named, and those that were removed and have
    left something in Redis. Exit 1 if one that is named cannot be used, or Redis does not answer.
    """
    loaded = settings.load()
    found = handler_catalog.list_entries(loaded.handlers)
    known: list[HandlerState] | None = None
    problem = "REDIS_URL is not set" if not loaded.redis_url else ""
    if not problem:
        client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
        try:
            known = read_states(client, found)
        except redis.RedisError as exc:
            problem = f"{connections.redact_url(loaded.redis_url)} cannot be used: {exc}"
        finally:
            client.close()
    rows = handlers_table.make_rows(found, known)
    click.echo(handlers_table.to_json(rows) if as_json else handlers_table.to_text(rows, problem=problem), nl=False)
    if as_json and problem:
        click.echo(f"The state of the queues is not known: {problem}.", err=True)
    is_broken = any(one.is_named and one.handler is None for one in found)
    sys.exit(1 if is_broken or (loaded.redis_url and problem) else 0)


for command in (try_handler, pause_handler, resume_handler, drain, purge):
    handlers.add_command(command)
