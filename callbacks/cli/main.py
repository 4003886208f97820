"""The command `callbacks`: a group whose commands are imported only when they are called.

So `callbacks web` imports neither the workers nor any handler (I6), and starts fast.
Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.
"""

import functools
import os
from importlib import import_module
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem
from dotenv import load_dotenv

from callbacks.cli.command import Group
from callbacks.distribution import DISTRIBUTION, Extra, MissingExtra, install_command
from shared import library_parts
from shared.library_parts import Name

# For each command: module and attribute, and its line in the help, which is shown without importing the command.
_COMMANDS: Final = {
    "demo": ("callbacks.cli.demo:demo", "Send a simulated campaign through the whole service."),
    "dev": ("callbacks.cli.dev:dev", "Run the whole service with its own Redis, until Ctrl-C."),
    "new": ("callbacks.cli.new:new", "Write a new folder with a handler, its test and its settings."),
    "web": ("callbacks.cli.web:web", "Run the web process, which receives callbacks."),
    "worker": ("callbacks.cli.worker:worker", "Run worker processes: expand callbacks, deliver events."),
    "ops": ("callbacks.cli.ops:ops", "Run the operators' page."),
    "notify": ("callbacks.cli.notify:notify", "List the targets of notices, or send each a test message."),
    "audit": ("callbacks.cli.audit:audit", "Check that everything received is in exactly one place."),
    "top": ("callbacks.cli.top:top", "Show the service's current status in the terminal."),
    "tail": ("callbacks.cli.tail:tail", "Show new events as they arrive, with filters."),
    "handlers": (
        "callbacks.cli.handlers:handlers",
        "List, try, pause, resume, drain, purge or forget handlers.",
    ),
    "backfill": ("callbacks.cli.backfill:backfill", "Deliver past events to a new handler, from the tables of `sql`."),
    "dead": ("callbacks.cli.dead:dead", "List, show, replay or drop dead letters: events that a handler gave up on."),
    "retries": (
        "callbacks.cli.retries:retries",
        "List events that failed and will be retried, or retry them now.",
    ),
    "quarantine": (
        "callbacks.cli.quarantine:quarantine",
        "List, show, replay or drop callbacks that could not be read.",
    ),
    "lost-key": ("callbacks.cli.lost_key:lost_key", "Discard what is sealed with a key that is lost."),
    "message": ("callbacks.cli.message:message", "Show a message: every status, and its replies."),
    "messages": ("callbacks.cli.messages:messages", "List messages by number, status, job and age; or overdue ones."),
    "jobs": ("callbacks.cli.jobs:jobs", "List jobs: how many messages are final, overdue and delivered."),
    "export": ("callbacks.cli.export:export", "Print all that mentions a person's number, as one JSON document."),
    "forget": ("callbacks.cli.forget:forget", "Erase people's numbers and texts from every store."),
    "stats": ("callbacks.cli.stats:stats", "Count messages by status, job and day."),
    "optouts": ("callbacks.cli.optouts:optouts", "List, check, import or export the numbers that opted out."),
    "simulate": ("callbacks.cli.simulate:simulate", "Send a campaign, or one event, to a URL as the gateway would."),
    "check": ("callbacks.cli.check:check", "Check the configuration, Redis and the handlers; or a body."),
    "completion": ("callbacks.cli.completion:completion", "Print the script that completes commands in a shell."),
}

# Callbacks carry people's numbers and texts. Files that a command writes, or that a process it starts writes, are for
# its own user and, if that user's umask says so, for the group.
_NO_ACCESS_FOR_OTHERS: Final = 0o007
# Commands that use private parts of a library, which its next release may change; checked before the import.
_NEEDS_PARTS_OF: Final[dict[str, tuple[Name, ...]]] = {
    "web": ("hiredis", "httptools", "redis", "uvicorn", "uvloop"),
    "worker": ("redis", "rq"),
    "ops": ("httptools", "redis", "uvicorn"),
}

# The extra that installs a module which some commands import. What is in no extra comes with the service.
_EXTRAS: Final[dict[str, Extra]] = {"aiohttp": "dev", "yarl": "dev"}

# These use the Redis of a `callbacks dev` that runs in this folder, if no other is set; and the last its database.
_FIND_DEV: Final = frozenset(
    ("audit", "backfill", "dead", "export", "forget", "handlers", "lost-key", "quarantine", "retries", "tail", "top")
)
_READ_CELLS: Final = frozenset(("audit", "top"))
_FIND_DATABASE_OF_DEV: Final = frozenset(("export", "forget", "jobs", "message", "messages", "optouts", "stats"))


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        try:
            library_parts.check(*_NEEDS_PARTS_OF.get(cmd_name, ()))
            command: click.Command = getattr(import_module(module), attribute)
        except (library_parts.MissingPart, MissingExtra) as exc:
            raise click.ClickException(str(exc)) from exc
        except ModuleNotFoundError as exc:
            raise click.ClickException(f"{exc}: {install_command(_EXTRAS.get(exc.name or ''))}") from exc
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own imports every command, also those whose extra is not installed.
        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=_COMMANDS[name][1]) for name in names), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=DISTRIBUTION)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Receive the callbacks of Fortytwo's IM Gateway, and never lose one."""
    umask = os.umask(0o077)
    os.umask(umask | _NO_ACCESS_FOR_OTHERS)
    ctx.call_on_close(functools.partial(os.umask, umask))  # the command may run within a longer-lived process
    # For development; variables that are set already are not changed.
    handlers = os.environ.get("CALLBACKS_HANDLERS")
    load_dotenv(Path(".env"))
    reads_cells = ctx.invoked_subcommand in _READ_CELLS and _is_set("CALLBACKS_CELLS")
    if ctx.invoked_subcommand in _FIND_DEV and not reads_cells and not _is_set("REDIS_URL"):
        _use_running_dev(handlers, instead_of="REDIS_URL")
    if ctx.invoked_subcommand in _FIND_DATABASE_OF_DEV and not _is_set("DATABASE_URL"):
        _use_running_dev(handlers, instead_of="DATABASE_URL")


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(variable) or os.environ.get(f"{variable}_FILE"))


def _use_running_dev(handlers: str | None, *, instead_of: str) -> None:
    """Set the variables that `callbacks dev` has; `handlers` is what the user set outside of `.env`."""
    from callbacks.cli import running_dev  # noqa: PLC0415 # most commands do not need it

    running = running_dev.find()
    if running is None:
        return
    for variable, value in (("REDIS_URL", running.redis_url), ("DATABASE_URL", running.database_url)):
        if not _is_set(variable):
            os.environ[variable] = value
    os.environ["CALLBACKS_HANDLERS"] = handlers or running.handlers
    click.echo(f"{instead_of} is not set: this uses the `callbacks dev` in {running_dev.DEFAULT_FOLDER}", err=True)


if __name__ == "__main__":
    main(prog_name="callbacks")
