"""What a misspelt name was meant to be."""

import pytest

from shared.did_you_mean import closest, did_you_mean

NAMES = ("forward", "jsonl", "log", "sql", "stream")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("jsnol", "jsonl"), ("Forwards", "forward"), ("LOG", "log"), ("strem", "stream"), ("sqlite", "sql"), ("x", None)],
)
def test_the_most_similar_name_is_suggested(written: str, meant: str | None) -> None:
    assert closest(written, NAMES) == meant


def test_the_suggestion_is_left_out_if_no_name_is_similar() -> None:
    assert did_you_mean("jsnol", NAMES) == " (did you mean 'jsonl'?)"
    assert did_you_mean("", NAMES) == ""
