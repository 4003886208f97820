"""How every command of ours ends in trouble: with a sentence; exit 2 where the configuration is wrong, else 1."""

from typing import Any, Final

import click

from shared.errors import CallbacksError, ConfigurationError

EXIT_USAGE: Final = 2


class Command(click.Command):
    """A command that says what is wrong with the configuration instead of showing a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as exc:
            for problem in exc.problems:
                click.echo(f"callbacks: {problem}", err=True)
            click.echo("`callbacks check` tells more.", err=True)
            ctx.exit(EXIT_USAGE)
        except CallbacksError as exc:
            raise click.ClickException(str(exc)) from exc
