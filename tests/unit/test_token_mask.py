"""No token is left in a text, however it is encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.token_mask import token_mask

SECRET = "s3cr<t>:1"


@pytest.mark.parametrize(
    "given_text",
    [
        "s3cr<t>:1",
        "s3cr%3Ct%3E%3A1",
        "s3cr%3ct%3e:1",
        "%73%33%63%72%3C%74%3E%3A%31",
        "s3cr%253Ct%253E%253A1",
        "s3cr%25253Ct>:1",
    ],
)
def test_a_known_token_is_masked_in_each_encoding(given_text: str) -> None:
    assert token_mask([SECRET])(f"agent {given_text}/7") == "agent ***/7"


def test_a_token_that_begins_like_another_is_masked_whole() -> None:
    assert token_mask(["abc", "abcdef"])("abcdef abc") == "*** ***"


def test_any_token_in_a_callback_url_is_masked() -> None:
    assert token_mask([])("https://x/callbacks/yesterday/status") == "https://x/callbacks/***/status"


def test_another_case_is_another_text() -> None:
    assert token_mask(["abc"])("ABC") == "ABC"


@given(st.lists(st.sampled_from(["%25", "%", "25", "a", "%61", "%2561"]), max_size=60).map("".join))
def test_any_text_is_masked_to_its_end(text: str) -> None:
    mask = token_mask(["aa"])
    assert mask(mask(text)) == mask(text)
