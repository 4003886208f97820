"""Parallel workers of pytest take long files first, and short ones between them."""

from pathlib import Path

from tests.file_order import LONG_FILES, positions

TESTS = Path(__file__).parents[1]


def in_order(*files: str) -> list[str]:
    found = positions(files)
    assert sorted(found.values()) == list(range(len(files)))
    return sorted(found, key=found.__getitem__)


def test_each_long_file_exists() -> None:
    assert [file for file in LONG_FILES if not (TESTS / file).is_file()] == []
    assert len(set(LONG_FILES)) == len(LONG_FILES)


def test_short_files_come_between_long_ones_and_their_folders_are_mixed() -> None:
    first, second = LONG_FILES[:2]

    order = in_order("docs/test_b.py", "docs/test_d.py", second, "unit/test_a.py", "unit/test_c.py", first)

    assert order == [first, "unit/test_a.py", "docs/test_b.py", second, "unit/test_c.py", "docs/test_d.py"]


def test_without_a_long_file_all_are_in_the_order_of_their_names() -> None:
    assert in_order("unit/test_b.py", "docs/test_c.py", "unit/test_a.py") == [
        "unit/test_a.py", "unit/test_b.py", "docs/test_c.py",
    ]  # fmt: skip


def test_without_a_short_file_the_longest_is_first() -> None:
    assert in_order(*reversed(LONG_FILES)) == list(LONG_FILES)
