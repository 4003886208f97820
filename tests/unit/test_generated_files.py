"""Files that `make docs` makes of others are as it would make them now."""

from collections.abc import Callable, Iterator

import pytest

from tests.docs import generated, pages


@pytest.mark.parametrize(("name", "lines"), generated.FILES, ids=[name for name, _ in generated.FILES])
def test_each_file_is_as_made_now(name: str, lines: Callable[[], Iterator[str]]) -> None:
    text = (pages.REPOSITORY / name).read_text(encoding="utf-8")

    assert text == "\n".join(lines()) + "\n", "run: make docs"
