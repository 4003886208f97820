"""What pip knows this service by, and the commands that install it.

The package and the command are `callbacks`; on the package index that name is another project's.
"""

from typing import Final, Literal, TypeAlias

DISTRIBUTION: Final = "fortytwo-callbacks"
Extra: TypeAlias = Literal["all", "dev", "forward", "notify", "otel", "postgres", "seal", "server", "sql"]


class MissingExtra(ModuleNotFoundError):
    """A module that an extra installs is missing. The message says how to install it."""

    def __init__(self, package: str, *, module: str, extra: Extra) -> None:
        super().__init__(f"{package} is not installed: {install_command(extra)}", name=module)


def install_command(extra: Extra | None = None) -> str:
    """Return the command that installs the service, or what one of its extras adds."""
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"
