"""A number with its noun is written in one way, so that nothing says "1 events"."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.counted import counted

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("event",), "0 events"),
        (1, ("event",), "1 event"),
        (2000, ("event",), "2,000 events"),
        (1, ("reply", "replies"), "1 reply"),
        (2, ("reply", "replies"), "2 replies"),
        (1, ("job waits", "jobs wait"), "1 job waits"),
    ],
)
def test_one_is_singular_and_all_other_numbers_are_plural(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text


def test_no_text_counts_in_another_way() -> None:
    found = [line for folder in ("callbacks", "ingest", "workers", "shared") for line in plurals(ROOT / folder)]

    assert not found, "shared.counted.counted(number, noun) writes it"


def plurals(folder: Path) -> Iterator[str]:
    """Yield each line that has an f-string with a number in groups of thousands, and a plural behind it."""
    pattern = re.compile(r":,\} (?:more |distinct )?(?!has|is|was)[a-z]+s(?=[ .,;:\"'])")
    for path in sorted(folder.rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
