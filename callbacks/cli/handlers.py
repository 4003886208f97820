"""`callbacks handlers`: list the handlers and their queues; the group of the commands for one handler."""

import sys

import click
import redis

from callbacks.cli import failure_options, handlers_table
from callbacks.cli.command import Command, Group
from callbacks.cli.handlers_drain import drain
from callbacks.cli.handlers_forget import forget
from callbacks.cli.handlers_pause import pause_handler, resume_handler
from callbacks.cli.handlers_purge import purge
from callbacks.cli.handlers_try import try_handler
from shared import connections, sealed_data, settings
from workers.admin import handler_catalog
from workers.admin.handler_states import HandlerState, read_states


@click.group(cls=Group, invoke_without_command=True)
@failure_options.json_option
@click.pass_context
def handlers(ctx: click.Context, *, as_json: bool) -> None:
    """List handlers and what waits for each; try, pause, resume, drain, purge or forget one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_handlers, as_json=as_json)


@handlers.command("list", cls=Command)
@failure_options.json_option
def list_handlers(*, as_json: bool) -> None:
    """List all handlers.

    Those that CALLBACKS_HANDLERS names, those that are installed but not named, and removed ones that still have
    events in Redis. Exit 1 if a named handler cannot be used, or Redis does not answer.
    """
    loaded = settings.load(process="command")
    sealed_data.use(loaded.seal_keys)
    found = handler_catalog.list_entries(loaded.handlers)
    known: list[HandlerState] | None = None
    problem = "REDIS_URL is not set" if not loaded.redis_url else ""
    if not problem:
        client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
        try:
            known = read_states(client, found)
        except redis.RedisError as exc:
            problem = f"{connections.redact_url(loaded.redis_url)} cannot be used: {connections.describe_error(exc)}"
        finally:
            client.close()
    rows = handlers_table.make_rows(found, known)
    click.echo(handlers_table.to_json(rows) if as_json else handlers_table.to_text(rows, problem=problem), nl=False)
    if as_json and problem:
        click.echo(f"The state of the queues is unknown: {problem}.", err=True)
    is_broken = any(one.is_named and one.handler is None for one in found)
    sys.exit(1 if is_broken or (loaded.redis_url and problem) else 0)


for command in (try_handler, pause_handler, resume_handler, drain, purge, forget):
    handlers.add_command(command)
