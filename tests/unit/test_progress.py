"""A job's progress as text: read back as it was written, and different whenever anything is settled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import progress

positions = st.frozensets(st.integers(0, 200))


@pytest.mark.parametrize(
    ("settled", "text"),
    [
        (set(), "0"),
        ({0}, "1"),
        ({0, 1, 2}, "3"),
        ({1}, "0,1"),
        ({1, 2}, "0,1-2"),
        ({0, 1, 3, 5, 6, 7}, "2,3,5-7"),
        (set(range(17)) | set(range(19, 41)) | {42}, "17,19-40,42"),
    ],
)
def test_the_first_ones_are_counted_and_the_others_named(settled: set[int], text: str) -> None:
    assert progress.to_text(settled) == text
    assert progress.parse(text) == settled


@given(positions)
def test_what_was_written_is_read_and_counted(settled: frozenset[int]) -> None:
    assert progress.parse(progress.to_text(settled)) == settled
    assert progress.count(progress.to_text(settled)) == len(settled)


@given(positions, positions)
def test_two_states_never_have_one_text(one: frozenset[int], other: frozenset[int]) -> None:
    assert (progress.to_text(one) == progress.to_text(other)) == (one == other)


def test_nothing_settled_is_what_a_new_job_says() -> None:
    assert progress.to_text(()) == progress.NOTHING
