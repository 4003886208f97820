"""The documentation as tests read it: every page, its fenced blocks, its tables, and which blocks a test has.

A test takes the blocks of a section by `with_blocks`, which also notes that these blocks are tested. `test_every_page`
fails for a block that no test takes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
_NOT_OURS: Final = frozenset(("__pycache__", "build", "dist", "node_modules", "var"))
_FENCE: Final = re.compile(r"^```(\w*)$")

# Page and section of each block that a test takes.
tested: Final[set[tuple[str, str]]] = set()


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its page, the heading that it is below, its language and its text."""

    page: str
    section: str
    language: str
    text: str


@cache
def files() -> tuple[Path, ...]:
    """Return every file of the repository, without what is built, installed or received in it."""
    return tuple(sorted(_files_below(REPOSITORY)))


@cache
def names() -> tuple[str, ...]:
    """Return the path of every page, as `docs/rq.md`."""
    return tuple(str(path.relative_to(REPOSITORY)) for path in files() if path.suffix == ".md")


@cache
def text(page: str) -> str:
    """Return the text of a page."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    section, language, lines = "", None, list[str]()
    for line in text(page).splitlines():
        fence = _FENCE.match(line)
        if language is None and line.startswith("#"):
            section = line.lstrip("#").strip()
        elif language is None and fence:
            language, lines = fence[1], []
        elif fence and language is not None:
            found.append(Block(page, section, language, "".join(f"{line}\n" for line in lines)))
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page}: a fenced block has no end"
    return tuple(found)


def prose(page: str) -> str:
    """Return the text of a page without its fenced blocks."""
    return re.sub(r"^```\w*\n.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def headings(page: str) -> list[str]:
    """Return the headings of a page, in order."""
    return re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)


def section(page: str, heading: str) -> str:
    """Return what is below a heading of a page, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#+ |\Z)", text(page), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def code(page: str) -> Iterator[str]:
    """Yield each code span in the prose of a page, on one line."""
    for span in re.findall(r"`([^`]+)`", prose(page)):
        yield re.sub(r"\s+", " ", span)


def rows(page: str, *header: str) -> list[list[str]]:
    """Return the cells of the table of a page whose header has these cells."""
    line = f"| {' | '.join(header)} |"
    _, found, rest = text(page).partition(line + "\n")
    assert found, f"{page} has no table {line!r}"
    table = re.match(r"\|[-|]+\|\n((?:\|.*\n)+)", rest)
    assert table, f"{page}: the table {line!r} has no rows"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in table[1].splitlines()]


def with_blocks(page: str, *sections: str) -> pytest.MarkDecorator:
    """Pass a test all blocks below these headings of a page, as `blocks`, and note that they are tested."""
    found = [block for block in blocks(page) if block.section in sections]
    assert found, f"{page} has no block in {sections}"
    tested.update((page, block.section) for block in found)
    return pytest.mark.parametrize("blocks", [found], ids=["-".join(sections)])


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.is_dir():
            yield path
        elif not path.name.startswith(".") and path.name not in _NOT_OURS:
            yield from _files_below(path)
