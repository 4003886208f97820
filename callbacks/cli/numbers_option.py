"""The option `--numbers` of commands that print phone numbers: masked unless they are asked for in full."""

from typing import Final, Literal, TypeAlias

import click

from workers.handlers.mask import mask_number

Numbers: TypeAlias = Literal["masked", "full"]

numbers_option: Final = click.option(
    "--numbers", type=click.Choice(["masked", "full"]), default="masked", show_default=True, help="Phone numbers."
)


def shown_number(number: str | None, numbers: Numbers) -> str | None:
    """Return a number as the option asks for it; None for None."""
    return number if number is None or numbers == "full" else mask_number(number)
