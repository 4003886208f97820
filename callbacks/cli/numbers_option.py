"""The option `--numbers` of commands that print phone numbers: masked unless they are asked for in full."""

from typing import Final

import click

numbers_option: Final = click.option(
    "--numbers", type=click.Choice(["masked", "full"]), default="masked", show_default=True, help="Phone numbers."
)
