"""Wherever people look, numbers and texts are masked; whole ones are shown on request, which the action log records.

A number and a text are planted in every field of reports, replies and what cannot be read (`masked_service`). Then all
that any process logged, exposed, sent or printed is searched for them.
"""

import html
import re
import urllib.parse
from collections.abc import Iterator
from typing import Final

import pytest

from shared import keys
from tests.acceptance import masked_service
from tests.acceptance.masked_outlets import OUTLETS, Outlet
from tests.acceptance.masked_service import Service
from tests.acceptance.quoting_handlers import NUMBER, TEXT

# What of them would be found: also without the country code, and with half of the text.
TRACES: Final = (NUMBER, NUMBER[-7:], "Zwetschgenkn", "morgen um acht")
# Longer, as digits that stand apart may be anything.
_DIGITS: Final = NUMBER[2:]
_SEPARATORS: Final = re.compile(r"(?<=\d)[ ()/.\-+]{1,3}(?=\d)")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with masked_service.running(tmp_path_factory.mktemp("masked")) as service:
        yield service


def assert_masked(where: str, text: str) -> None:
    for reading in dict.fromkeys((text, urllib.parse.unquote_plus(text), html.unescape(text), unescaped(text))):
        for trace in TRACES:
            position = reading.find(trace)
            assert position < 0, f"{where}: …{reading[max(0, position - 200) : position + 80]}…"
        position = _SEPARATORS.sub("", reading).find(_DIGITS)
        assert position < 0, f"{where}: …{_SEPARATORS.sub('', reading)[max(0, position - 200) : position + 80]}…"


def unescaped(text: str) -> str:
    r"""Return a text with its escapes `\uXXXX` and `\xXX` decoded."""
    return re.sub(r"\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2}))", lambda found: chr(int(found[1] or found[2], 16)), text)


@pytest.mark.parametrize("outlet", OUTLETS, ids=lambda outlet: outlet.name)
def test_nothing_that_people_see_has_them(service: Service, outlet: Outlet) -> None:
    read = dict(outlet.read(service))

    for where, text in read.items():
        assert text, where
        assert_masked(where, text)
    assert any(outlet.expected in text for text in read.values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dead list raising", NUMBER),
        ("dead show raising", TEXT),
        ("dead export raising", TEXT),
        ("quarantine show", NUMBER),
        ("message m-1 --json", NUMBER),
        ("message m-1", TEXT),
        ("messages", NUMBER),
        ("retries list", NUMBER),
        ("optouts list", NUMBER),
    ],
)
def test_a_user_who_asks_sees_them_and_the_action_log_says_so(service: Service, words: str, expected: str) -> None:
    given = words.split()
    index = {"dead": keys.dead("raising"), "quarantine": keys.QUARANTINE}.get(given[0]) if "show" in given else None
    named = [()] if index is None else [(each,) for each in service.ids(index)]
    printed = [service.command(*given, *each, "--numbers", "full") for each in named]

    assert any(expected in text for text in printed)
    command = " ".join(given[:2]) if given[0] in ("dead", "quarantine", "retries", "optouts") else given[0]
    assert f">{command}<" in service.page("/actions")
