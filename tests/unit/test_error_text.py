"""What the log says of an error: its words, and nothing of a person (I9)."""

import html
import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, quote_plus

import pytest

from tests.unit.example_events import reply, report
from workers.deliver.error_text import MAX_CHARACTERS, outcome_text
from workers.runtime.outcome import (
    DONE,
    Failed,
    InternalError,
    Outcome,
    Paused,
    Rejected,
    RetryRequested,
    from_exception,
)

WORDS: Final = "write to my sister"


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (RetryRequested(2.0, "shop is closed"), "shop is closed"),
        (Rejected("no such order"), "no such order"),
        (Paused(600.0, "moving house"), "moving house"),
        (from_exception(ValueError("no such order")), "ValueError: no such order"),
        (InternalError("ValueError: Grazzi", "", "exception", "ValueError"), ""),
        (DONE, ""),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_a_handler_raised_or_said_is_shown_and_what_we_raised_is_not(outcome: Outcome, text: str) -> None:
    assert outcome_text(outcome, [report()]) == text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("no account for 35679000123", "no account for 356*****123"),
        ("no account for +35679000123", "no account for +356*****123"),
        ("no account for +356 7900 0123", "no account for +356 **** *123"),
        ("no account for 356-7900-0123", "no account for 356-****-*123"),
        ("nor for the other one, +49 (170) 1234567", "nor for the other one, +49 (17*) ****567"),
        ("order 4711 of 2026-11-29, answered 404", "order 4711 of 2026-11-29, answered 404"),
    ],
)
def test_phone_numbers_are_masked_however_they_are_written(said: str, text: str) -> None:
    assert outcome_text(Rejected(said), [report()]) == text


@pytest.mark.parametrize(
    "written",
    [
        "0170 12 34 567",
        "(0170) 1234567",
        "0170/12-34-567",
        "170 1234567",
        "12 34 567",
        "+49 (0)170 12 34 567",
        "0049 170 12 34 567",
        "+49\u2013170\u20131234\u2013567",
        "%2B49%20170%2012%2034%20567",
        "%2B49+170+12+34+567",
        "0170\\u00a012\\u00a034\\u00a0567",
        "491,701,234,567",
        "491_701_234_567",
    ],
)
def test_of_an_events_number_at_most_the_ends_are_shown_also_in_its_national_form(written: str) -> None:
    shown = outcome_text(Rejected(f"no account for {written}, error 503"), [reply(**{"from": "491701234567"})])

    assert shown.startswith("no account for ")
    assert shown.endswith("567, error 503")
    assert "1234" not in "".join(filter(str.isalnum, shown))
    assert "2 34" not in shown


TEXT = 'Please\n"cancel" my order, I live in Msida'


@pytest.mark.parametrize(
    "said",
    [
        TEXT,
        repr(TEXT),
        TEXT[:20],
        TEXT[10:],
        TEXT.upper(),
        f"input_value={TEXT[:12]!r}...{TEXT[-10:]!r}",
    ],
    ids=["whole", "repr", "beginning", "end", "upper case", "shortened"],
)
def test_no_piece_of_a_persons_text_is_shown(said: str) -> None:
    shown = outcome_text(Rejected(f"cannot read {said} today"), [reply(message={"text": TEXT})])

    assert shown.startswith("cannot read ")
    assert shown.endswith(" today")
    assert not any(word in shown.lower() for word in ("please", "cancel", "order", "msida"))


def as_json(text: str) -> str:
    return json.dumps({"text": text})


def in_key_error(text: str) -> str:
    return str(KeyError(as_json(text)))


def as_bytes(text: str) -> str:
    return repr(text.encode())


def as_json_in_url(text: str) -> str:
    return quote(as_json(text))


@pytest.mark.parametrize(
    "write",
    [as_json, in_key_error, as_bytes, as_json_in_url, quote, quote_plus, ascii, repr, html.escape],
    ids=lambda write: write.__name__,
)
@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "Привет, мой пароль 77, никому не говори",
        "Meet me at 5 o\u2019clock,\n\nJosé & <Zoë>",
        "我的密码是七十七请不要告诉别人",
        "1+1=2 \U0001f600\U0001f600 is it 100% \\new?",
    ],
    ids=["english", "cyrillic", "latin", "chinese", "emoji"],
)
def test_a_persons_text_is_masked_in_every_escaped_form(write: Callable[[str], str], text: str) -> None:
    said = write(text)
    shown = outcome_text(Rejected(f"cannot read {said} today"), [reply(message={"text": text})])

    assert shown.startswith("cannot read ")
    assert shown.endswith(" today")
    left = shown.removeprefix("cannot read ").removesuffix(" today").replace("***", "")
    assert len(left) <= len(write("")) + 2 * len("\\'"), shown


def test_escapes_that_quote_nothing_of_the_event_stay_as_they_are() -> None:
    said = "GET /orders?note=caf%C3%A9+au+lait: {'e': '\\u041d\\u0435\\u0442'} &amp; \\n"

    assert outcome_text(Rejected(said), [reply(message={"text": TEXT})]) == said


def test_a_short_text_is_masked_where_it_is_a_word_and_cuts_no_other() -> None:
    assert outcome_text(Rejected("cannot read 'an', not in a plan"), [reply(message={"text": "an"})]) == (
        "cannot read '***', not in a plan"
    )


@pytest.mark.parametrize(
    "keys", [{"text": WORDS}, {"message": WORDS}, {"message": {"text": WORDS}}, {"sent": [{"Text": WORDS}]}]
)
def test_a_text_that_the_gateway_adds_to_a_record_is_masked(keys: dict[str, Any]) -> None:
    for event in (report(**keys), reply(**{"message": {"text": "Yes"}, **keys})):
        assert outcome_text(from_exception(ValueError(event.raw)), [event]).count(WORDS[:8]) == 0


def test_in_a_batch_each_events_text_is_masked() -> None:
    batch = [reply(), reply(message={"text": "I live in Msida"})]

    assert outcome_text(Rejected("one of them: I live in Msida"), batch) == "one of them: ***"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("https://shop:s3cret@shop.example/orders refused", "https://***@shop.example/orders refused"),
        ("https://us.example/callbacks/t0ken/status refused", "https://us.example/callbacks/***/status refused"),
    ],
)
def test_secrets_in_urls_are_masked(said: str, text: str) -> None:
    assert outcome_text(Rejected(said), []) == text


def test_it_is_one_bounded_line_without_quotation_marks_of_its_own() -> None:
    assert outcome_text(Rejected('one\n  "two"\x1b[31m'), []) == "one 'two'?[31m"
    assert len(outcome_text(Rejected("x" * 1000), [])) == MAX_CHARACTERS
    assert outcome_text(Failed("ValueError", "", "exception", "ValueError"), []) == "ValueError"
