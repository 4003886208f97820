"""`callbacks completion`: print the script with which a shell completes commands and options."""

import click
from click.shell_completion import get_completion_class

from callbacks.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    For bash, add `eval "$(callbacks completion bash)"` to ~/.bashrc; for zsh likewise to ~/.zshrc. For fish, save it as
    ~/.config/fish/completions/callbacks.fish.
    """
    complete = get_completion_class(shell)
    if complete is None:  # click knows these three
        raise click.ClickException(f"click has no completion for {shell}.")
    root = click.get_current_context().find_root()
    click.echo(complete(root.command, {}, "callbacks", "_CALLBACKS_COMPLETE").source(), nl=False)
