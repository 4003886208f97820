"""Numbers are compared by their digits, in whatever spelling; names are not."""

import sys
import unicodedata

import pytest

from callbacks import phone_numbers as public
from shared import phone_numbers
from shared.phone_numbers import comparable, contains
from tests.unit import example_events

NUMBER = "436641234567"
SPELLINGS = [
    NUMBER,
    "+436641234567",
    "00436641234567",
    "0043 664 123 45 67",
    "+43(664)123-4567",
    "+43 664/1234567",
    "43.664.1234567",
    " 43664 1234567\r\n",
    "+43\u00a0664\u202f1234567",
    "\ufeff\u202a+43 664\u20111234567\u202c",
    "\uff0b\uff14\uff13\uff08\uff16\uff16\uff14\uff09\u3000\uff11\uff12\uff13\uff0d\uff14\uff15\uff16\uff17",
    "\u0664\u0663\u0666\u0666\u0664\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
    "+\u06f4\u06f3 664 \u0967\u0968\u0969 4567",
]


@pytest.mark.parametrize("written", SPELLINGS, ids=ascii)
def test_each_spelling_of_a_number_is_the_same_number(written: str) -> None:
    assert comparable(written) == NUMBER
    assert comparable(comparable(written)) == NUMBER
    assert example_events.report(to=written).id == example_events.report(to=NUMBER).id
    # It is shown as it was received.
    assert example_events.report(to=written).recipient == written


def test_a_number_in_json_is_the_same_number() -> None:
    assert example_events.report(to=int(NUMBER)).id == example_events.report(to="+43 664 1234567").id


@pytest.mark.parametrize(
    "text",
    ["ACME24", "acme24", "24/7 Shop", "Fortytwo", "", "+", "()", "4366*****567", "43664...x", "\u00b2\u2460", "tel:43"],
    ids=ascii,
)
def test_what_is_not_a_number_is_compared_as_text(text: str) -> None:
    assert comparable(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NUMBER, "06641234567"),  # national: nobody can know its country
        (NUMBER, "+43 (0) 664 1234567"),
        (NUMBER, "436641234568"),
        (NUMBER, f"0{NUMBER}"),
        (NUMBER, f"000{NUMBER}"),
        ("ACME24", "acme24"),
        ("ACME24", "24"),
        ("0", "00"),
    ],
)
def test_two_numbers_or_names_are_not_the_same(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


def test_a_key_has_only_digits_and_no_international_prefix() -> None:
    assert [comparable(text) for text in ("00", "000", "0043", "+0043", "0664", "00 0664")] == [
        "00", "000", "43", "43", "0664", "000664",
    ]  # fmt: skip


def test_every_blank_and_every_dash_of_unicode_separates_digits() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(character) in {"Zs", "Zl", "Zp", "Pd"} or character.isspace():
            if ord(character) > 0xFFFF:
                continue  # dashes of scripts that nobody writes numbers with
            assert character in phone_numbers.SEPARATORS, hex(ord(character))
            assert comparable(f"43{character}664") == "43664"


@pytest.mark.parametrize(
    ("part", "is_found"),
    [
        (NUMBER, True),
        ("+43 664", True),
        ("0043664", True),
        ("664-12", True),
        ("4567", True),
        ("\uff16\uff16\uff14", True),
        ("001", False),  # a number of another country, not a part of this one
        ("0664", False),
        ("ACME", False),
        ("+", False),
        ("", False),
    ],
    ids=ascii,
)
def test_a_part_of_a_number_is_found_by_its_digits(part: str, is_found: bool) -> None:
    for written in (NUMBER, "0043 664 1234567", "+43(664)1234567"):
        assert contains(written, part) is is_found


def test_a_part_of_a_name_is_found_as_text() -> None:
    assert [contains("ACME24", part) for part in ("ACME24", "CME2", "acme", "24", "")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_handlers_have_the_same_rule_for_their_own_tables() -> None:
    assert public.comparable is comparable
