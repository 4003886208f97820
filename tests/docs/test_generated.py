"""The parts that are made from the code and from the benchmarks' results are what would be made now."""

import re
from collections.abc import Callable, Iterator

import pytest

from tests.docs import generated, pages


@pytest.mark.parametrize(("page", "begin", "lines"), generated.PARTS, ids=[part[1] for part in generated.PARTS])
def test_each_part_is_as_made_now(page: str, begin: str, lines: Callable[[], Iterator[str]]) -> None:
    assert generated.written(pages.text(page), begin, lines()) == pages.text(page), "run: make docs"


def test_each_mark_of_a_page_is_of_a_part() -> None:
    marks = {
        (page, mark)
        for page in pages.names()
        for mark in re.findall(r"^<!-- \w+: .*-->$", pages.text(page), re.MULTILINE)
    }

    assert marks == {(page, begin) for page, begin, _ in generated.PARTS}


BEGIN = "<!-- part: made by make docs -->"
END = "<!-- /part -->"


@pytest.mark.parametrize("text", ["no marks", f"{BEGIN} {BEGIN} {END}", f"{END} {BEGIN}"])
def test_a_page_without_the_marks_is_not_changed(text: str) -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        generated.written(text, BEGIN, iter(["a part"]))
