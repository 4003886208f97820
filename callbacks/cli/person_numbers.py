"""The numbers that `callbacks forget` and `export` are given, as arguments or as lines of a file."""

import io
from collections.abc import Iterable, Iterator

import click

from shared.number_search import NotANumber, NumberSearch, comparable_number


def parse(spellings: Iterable[str], lines: Iterable[tuple[int, str]] = ()) -> NumberSearch:
    """Return the search for these numbers and those in the lines of a file, each with the line's number.

    Raises click.UsageError, which names the position or the line of a wrong one.
    """
    numbers: set[str] = set()
    named = ((f"Number {position}", spelling) for position, spelling in enumerate(spellings, start=1))
    for where, spelling in (*named, *((f"Line {line} of the file", spelling) for line, spelling in lines)):
        try:
            numbers.add(comparable_number(spelling))
        except NotANumber as exc:
            # Not the text itself: it may be a number with a typing error.
            raise click.UsageError(f"{where}: {exc}") from exc
    return NumberSearch(numbers)


def read_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file of numbers, without empty ones and those that begin with #. Raises click.UsageError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise click.UsageError(f"Line {line} of the file is not text in UTF-8: save the file as UTF-8.") from exc
    for number, line_text in enumerate(io.StringIO(text, newline=None), start=1):
        spelling = line_text.strip()
        if spelling and not spelling.startswith("#"):
            yield number, spelling
