"""What is said of one setting where its field is declared: everything that the table, the errors and `load` need."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

# `history`: what reads the database of the handler `sql`. `cells`: the commands that read every cell. `notify`: the one
# that tries the targets of notices. `command`: the other commands; `check` reads everything.
Process: TypeAlias = Literal["web", "expand", "deliver", "ops", "command", "cells", "history", "notify"]

_SECRET_WORDS: Final = ("TOKEN", "URL", "SECRET", "PASSWORD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a setting is read from the environment, and what the documentation says of it."""

    variable: str
    default: str | None
    parse: Callable[[str], Any]
    help: str
    shown_default: str
    from_file: bool
    may_be_empty: bool
    read_by: tuple[Process, ...] | None
    absent: Any

    @property
    def default_value(self) -> Any:
        """The value if the variable is not set."""
        return self.absent if self.default is None else self.parse(self.default)

    def is_read_by(self, process: Process | None) -> bool:
        """Return whether a process reads it. None: one that reads all."""
        return process is None or self.read_by is None or process in self.read_by


def setting(
    variable: str,
    default: str | None,
    parse: Callable[[str], Any],
    text: str,
    *,
    shown_default: str = "",
    from_file: bool = False,
    may_be_empty: bool = False,
    read_by: tuple[Process, ...] | None = None,
    absent: Any = "",
) -> Any:
    """Return the field of a setting. `parse` returns the value of a text, or raises ValueError, as in `setting_values`.

    default       the text that is read if the variable is not set; None: the value is `absent`
    from_file     a secret, which may be in a file instead, as containers and systemd provide them
    may_be_empty  an empty value has a meaning; of all others it is the same as none
    read_by       the processes that read it: a wrong one stops no other; None: all read it. What the pages of `ops`
                  read of the handlers is not worth their start. Handlers read their own settings themselves.
    """
    shown = shown_default or default or ""
    known = Setting(
        variable=variable,
        default=default,
        parse=parse,
        help=text,
        shown_default=shown,
        from_file=from_file,
        may_be_empty=may_be_empty,
        read_by=read_by,
        absent=absent,
    )
    # A field that may hold a password is not in the repr.
    secret = from_file or any(word in variable for word in _SECRET_WORDS)
    return dataclasses.field(metadata={"setting": known}, repr=not secret)
