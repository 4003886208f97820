"""Text that strangers wrote, made safe to print in a terminal."""

from typing import Final

_MAX_CHARACTERS: Final = 100


def printable(text: str) -> str:
    """Return `text` on one line, without characters that control a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str) -> str:
    """Return `text` cut to 100 characters on one line, without characters that control a terminal."""
    line = printable(text)
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 1] + "…"
