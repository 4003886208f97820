"""What a misspelt name was meant to be."""

import pytest

from shared.did_you_mean import closest, did_you_mean

NAMES = ("forward", "jsonl", "log", "sql", "stream")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("jsnol", "jsonl"), ("Forwards", "forward"), ("LOG", "log"), ("strem", "stream"), ("sqlite", "sql"), ("x", None)],
)
def test_the_likest_name_is_what_was_meant(written: str, meant: str | None) -> None:
    assert closest(written, NAMES) == meant


def test_the_question_stands_behind_the_name_and_is_left_out_where_nothing_is_like_it() -> None:
    assert did_you_mean("jsnol", NAMES) == " (did you mean 'jsonl'?)"
    assert did_you_mean("", NAMES) == ""
