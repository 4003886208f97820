"""How commands report errors: one sentence; exit code 2 if the configuration is wrong, otherwise 1."""

from typing import Any, Final

import click

from shared.errors import CallbacksError, ConfigurationError

EXIT_USAGE: Final = 2


class Command(click.Command):
    """A command that prints our errors as sentences instead of tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as exc:
            for problem in exc.problems:
                click.echo(f"callbacks: {problem}", err=True)
            click.echo("`callbacks check` says more.", err=True)
            ctx.exit(EXIT_USAGE)
        except CallbacksError as exc:
            raise click.ClickException(str(exc)) from exc
