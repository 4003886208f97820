"""What strangers wrote, as the page shows it: text, and every character that could deceive by its number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from callbacks.ops.html.visible_text import escape_visibly


def shown(text: object, most: int | None = None) -> str:
    """Return what a person reads."""
    return Markup(escape_visibly(text, most)).striptags()


@pytest.mark.parametrize("text", ["Grazzi! \U0001f44d\U0001f3fd \u05ea\u05d5\u05d3\u05d4, \u00e9", "a\tb", "12345"])
def test_plain_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert str(escape_visibly(text)) == f"<bdi>{text}</bdi>"


@pytest.mark.parametrize(
    "joined", ["\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467"]
)
def test_what_joins_persian_letters_and_emoji_is_left_alone(joined: str) -> None:
    assert "unseen" not in escape_visibly(joined)


@pytest.mark.parametrize(
    ("character", "named"),
    [
        ("\x00", "U+0000"),
        ("\x1b", "U+001B"),
        ("\r", "U+000D"),
        ("\x85", "U+0085"),
        ("\u00ad", "U+00AD"),
        ("\u200b", "U+200B"),
        ("\u200f", "U+200F"),
        ("\u202e", "U+202E"),
        ("\u2028", "U+2028"),
        ("\u2066", "U+2066"),
        ("\ufeff", "U+FEFF"),
        ("\ue000", "U+E000"),
        ("\ud800", "U+D800"),
        ("\U000e0041", "U+E0041"),
    ],
)
def test_a_character_that_one_cannot_see_or_that_turns_text_around_is_named(character: str, named: str) -> None:
    assert shown(f"a{character}b") == f"a{named}b"
    assert character not in escape_visibly(f"a{character}b")


def test_markup_stays_text() -> None:
    assert str(escape_visibly("<b>&\"'</b>")) == "<bdi>&lt;b&gt;&amp;&#34;&#39;&lt;/b&gt;</bdi>"


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    assert shown("<" * 5000, 10) == "<" * 10 + "… and 4,990 more characters"


def test_nothing_is_a_dash() -> None:
    assert shown(None) == "\u2013"


@given(st.text(alphabet=st.characters(codec=None)))
def test_whatever_comes_only_our_own_markup_is_in_it(text: str) -> None:
    found = str(escape_visibly(text))
    inner = found.removeprefix("<bdi>").removesuffix("</bdi>")
    assert inner.count("<") == 2 * found.count('<span class="unseen"')
    assert not any(character in found for character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x00\x1b")
