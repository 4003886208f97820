"""The `callbacks` command: a group whose commands are imported only when they are called.

That keeps `callbacks web` free of the workers and of every handler (I6), and quick to start.
Exit codes: 0 well, 1 not well, 2 wrong usage or configuration.
"""

import functools
import os
from importlib import import_module
from pathlib import Path
from typing import Final

import click
from dotenv import load_dotenv

from shared import library_parts
from shared.library_parts import Name

# Name of the command: module and attribute, and its one line in the help (the import would cost what it saves).
_COMMANDS: Final = {
    "demo": ("callbacks.cli.demo:demo", "A simulated campaign through the whole service, and its balance."),
    "dev": ("callbacks.cli.dev:dev", "The whole service on a Redis of its own, until Ctrl-C."),
    "web": ("callbacks.cli.web:web", "The web process: takes callbacks, keeps them, answers 200."),
    "worker": ("callbacks.cli.worker:worker", "Worker processes: expand callbacks, deliver events."),
    "ops": ("callbacks.cli.ops:ops", "The operators' page."),
    "audit": ("callbacks.cli.audit:audit", "Whether all that was received is somewhere, once."),
    "top": ("callbacks.cli.top:top", "How the service is right now, in the terminal."),
    "tail": ("callbacks.cli.tail:tail", "New events as they come, with filters; as JSON too."),
    "handlers": (
        "callbacks.cli.handlers:handlers",
        "Handlers: list, try, turn off and on, drain, drop.",
    ),
    "backfill": ("callbacks.cli.backfill:backfill", "Give a new handler events of the past, from the tables of `sql`."),
    "dead": ("callbacks.cli.dead:dead", "Events that a handler gave up on: list, show, replay, drop."),
    "quarantine": (
        "callbacks.cli.quarantine:quarantine",
        "Callbacks that could not be read: list, show, replay, drop.",
    ),
    "message": ("callbacks.cli.message:message", "What became of a message: every status, and its replies."),
    "messages": ("callbacks.cli.messages:messages", "Messages by number, status and age; as CSV too."),
    "stats": ("callbacks.cli.stats:stats", "How many messages arrived, and how fast, by job and by day."),
    "simulate": ("callbacks.cli.simulate:simulate", "Play the gateway against a URL."),
    "check": ("callbacks.cli.check:check", "Say what is wrong with the configuration, Redis or a handler."),
}

# Callbacks carry people's numbers and texts. What a command writes, and what it starts (workers with any handler, a
# Redis), is for its own user and, where that user's umask says so, for the group.
_NO_ACCESS_FOR_OTHERS: Final = 0o007
# What stands on parts of a library that may change with its next release; looked at before the import, which may fail.
_NEEDS_PARTS_OF: Final[dict[str, tuple[Name, ...]]] = {
    "web": ("hiredis", "httptools", "redis", "uvicorn", "uvloop"),
    "worker": ("redis", "rq"),
    "ops": ("httptools", "redis", "uvicorn"),
}

# They read the tables of the handler `sql`.
_SQL_COMMANDS: Final = frozenset(("backfill", "message", "messages", "stats"))


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        try:
            library_parts.check(*_NEEDS_PARTS_OF.get(cmd_name, ()))
            command: click.Command = getattr(import_module(module), attribute)
        except library_parts.MissingPart as exc:
            raise click.ClickException(str(exc)) from exc
        except ModuleNotFoundError as exc:
            extra = "sql" if cmd_name in _SQL_COMMANDS else "ops" if cmd_name in ("ops", "top") else "dev"
            raise click.ClickException(
                f"{exc}: `pip install 'callbacks[{extra}]'` brings what `{cmd_name}` needs"
            ) from exc
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="callbacks")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Receive the callbacks of Fortytwo's IM Gateway and never lose one."""
    umask = os.umask(0o077)
    os.umask(umask | _NO_ACCESS_FOR_OTHERS)
    ctx.call_on_close(functools.partial(os.umask, umask))  # the command may run within a longer-lived process
    # For development; what the environment says already is left alone.
    load_dotenv(Path(".env"))


if __name__ == "__main__":
    main(prog_name="callbacks")
