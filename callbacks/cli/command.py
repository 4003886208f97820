"""How commands report errors: one sentence; exit code 2 if the configuration is wrong, otherwise 1."""

from typing import Any, Final

import click

from callbacks.cli.start_lines import print_problems
from shared import logs
from shared.did_you_mean import closest
from shared.errors import CallbacksError, ConfigurationError

EXIT_USAGE: Final = 2


class Group(click.Group):
    """A group of commands that says which command was meant by a misspelt name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, or fail."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{_hint(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _hint(name: str, commands: list[str]) -> str:
    meant = closest(name, commands)
    return "" if meant is None else f" Did you mean {meant!r}?"


class Command(click.Command):
    """A command that prints our errors as sentences instead of tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return self._invoke(ctx)
        except click.ClickException as exc:
            if not logs.is_json():
                raise
            print_problems([exc.format_message()])
            ctx.exit(exc.exit_code)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as exc:
            print_problems(exc.problems)
            ctx.exit(EXIT_USAGE)
        except CallbacksError as exc:
            raise click.ClickException(str(exc)) from exc
