"""A number is found in every spelling, and no other number is taken for it."""

import json

import pytest

from shared import phone_numbers
from shared.number_search import NotANumber, NumberSearch, comparable_number

NUMBER = "35699123456"
SEARCH = NumberSearch.parse(["+356 99 123 456"])


@pytest.mark.parametrize(
    "text",
    [
        NUMBER,
        f"+{NUMBER}",
        f"00{NUMBER}",
        "call (+356) 99-123-456 now",
        "7 35699123456 8",
        f"id{NUMBER}x",
        f'{{"to": {NUMBER}}}',
        json.dumps("٣٥٦٩٩١٢٣٤٥٦"),
        json.dumps(json.dumps(json.dumps({"to": "\u0663\u0665\u0666 99 123\t456"}))),
        "".join(chr(0xFF10 + int(digit)) for digit in NUMBER),
        "tel:%2B35699123456",
        "+356 - (99) 123456",
        "+356 -\u200e (99)\t.\u00a0 / 123456" + " " * 40,
        "call%2035699123456",
        "text=call%252035699123456",
        r"356\f99\u000c123456",
        json.dumps("".join(chr(0x1D7CE + int(digit)) for digit in NUMBER)),
    ],
)
def test_a_number_is_found_however_it_is_written(text: str) -> None:
    assert SEARCH.find_in(text)
    assert SEARCH.find_in_bytes(text.encode())
    assert SEARCH.find_in_bytes(text.encode("utf-16"))


@pytest.mark.parametrize("text", ["", "1", f"{NUMBER}7", f"1{NUMBER}", "35699,123456", "356 99 123 457", "99123456"])
def test_another_number_is_not_found(text: str) -> None:
    assert not SEARCH.find_in(text)
    assert not SEARCH.find_in_bytes(text.encode("utf-16-be"))


@pytest.mark.parametrize("text", ["", "12345", "ACME24", "1" * 16, "+", "099123456", "000356991234"])
def test_what_is_not_a_whole_number_is_refused(text: str) -> None:
    with pytest.raises(NotANumber, match="7 to 15 digits"):
        comparable_number(text)


@pytest.mark.parametrize("separator", phone_numbers.SEPARATORS)
def test_what_a_field_takes_for_the_number_is_found_in_a_text(separator: str) -> None:
    written = f"356{separator * 20}99123{separator}456"

    assert SEARCH.is_number(written)
    assert SEARCH.find_in(written)
    assert SEARCH.find_in(json.dumps({"to": written}))


def test_many_numbers_are_searched_in_one_pass() -> None:
    search = NumberSearch(str(35699000000 + index) for index in range(1000))

    assert search.find_in("from +356 9900 0999")
    assert not search.find_in("from +356 9900 1000")
