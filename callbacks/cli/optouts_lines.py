"""Reads the lines that `callbacks optouts import` gets: JSON, CSV with a header, or a number on each line.

All of them are read before anything is written, so that a wrong line leaves nothing half-done.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from callbacks import phone_numbers
from shared.number_search import MAX_DIGITS, MIN_DIGITS, says_its_digits
from workers.handlers.optout.number_wishes import NumberWish
from workers.handlers.sql import texts

_DIGITS: Final = range(MIN_DIGITS, MAX_DIGITS + 1)
_TRUE: Final = frozenset(("", "true", "yes", "1"))
_FALSE: Final = frozenset(("false", "no", "0"))
_TEXTS: Final = ("channel", "recipient", "keyword", "event_id")
# Spreadsheets of some countries separate cells by semicolons.
_DELIMITERS: Final = ",;\t"
# What an export has in the place of a number that was forgotten.
FORGOTTEN: Final = "forgotten"


class WrongLines(ValueError):
    """Lines that cannot be read: for each its number, from 1, and what is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_lines(data: bytes, *, source: str) -> list[NumberWish]:
    """Return the wishes of all lines; `source` is the source of those that name none. Raise WrongLines.

    One whose number was forgotten has the number None.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        number = data.count(b"\n", 0, exc.start) + 1
        raise WrongLines([f"line {number}: it is not text in UTF-8"]) from exc
    is_json = text.lstrip().startswith("{")
    wishes: list[NumberWish] = []
    problems: list[str] = []
    for number, fields in _json_fields(text) if is_json else _csv_fields(text):
        try:
            wishes.append(_wish(fields, source))
        except ValueError as exc:
            problems.append(f"line {number}: {exc}")
    if problems:
        raise WrongLines(problems)
    return wishes


def number_problem(number: str) -> str:
    """Return why a text is not a number that can be compared with others; "" if it is one.

    Neither this nor another problem quotes the text: it may be a number with a typing error, or in the wrong column.
    """
    if not says_its_digits(number):
        return (
            "the number has a (0), or a fraction from a spreadsheet: write its digits only, such as +43664… or 43664…"
        )
    digits = phone_numbers.comparable(number)
    if not digits.isdecimal():
        return "this is not a phone number"
    if digits.startswith("0"):
        return "the number has no country code: write it as +43664… or 43664…"
    return "" if len(digits) in _DIGITS else f"the number has {len(digits)} digits, and a phone number 7 to 15"


def _json_fields(text: str) -> Iterator[tuple[int, Mapping[str, Any] | ValueError]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.MsgspecError, UnicodeEncodeError) as exc:
                yield number, ValueError(f"it is not a JSON object: {exc}")


def _csv_fields(text: str) -> Iterator[tuple[int, Mapping[str, Any] | ValueError]]:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        try:
            row = next(rows, None)
        except csv.Error as exc:
            yield rows.line_num, ValueError(f"it is not CSV: {exc}")
            return
        if row is None:
            return
        cells = [_plain(cell) for cell in row]
        if not any(cells):
            continue
        if not names:
            names = [cell.lower() for cell in cells]
            if "number" in names:
                continue
            names = ["number"]
        if len(cells) > len(names):
            few = "number is not a column" if names == ["number"] else f"the header has {len(names)} columns"
            yield rows.line_num, ValueError(f"it has {len(cells)} cells, and {few}")
        else:
            yield rows.line_num, dict(zip(names, cells, strict=False))


def _plain(cell: str) -> str:
    """Return a cell without blanks around it, and without the apostrophe of `shared.csv_text`."""
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell


def _wish(fields: Mapping[str, Any] | ValueError, source: str) -> NumberWish:
    if isinstance(fields, ValueError):
        raise fields
    number = _text(fields.get("number"))
    is_forgotten = number == FORGOTTEN or fields.get(FORGOTTEN) is True
    if not number and not is_forgotten:
        raise ValueError("it has no number")
    # A row of an export is taken back as it is: a reply may have come from what is not a phone number.
    if not is_forgotten and not fields.get("event_id") and (problem := number_problem(number)):
        raise ValueError(problem)
    return NumberWish(
        number=None if is_forgotten else texts.storable_key(number),
        opted_out=_boolean(_text(fields.get("opted_out"))),
        changed_at=_time(_text(fields.get("changed_at"))),
        source=texts.storable_key(_text(fields.get("source")) or source),
        **{name: texts.optional_key(_text(fields.get(name)) or None) for name in _TEXTS},
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value).strip()
    raise ValueError("a value is neither a text nor a whole number")


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("opted_out must be true or false")
    return text.lower() in _TRUE


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("changed_at must be a time such as 2026-11-01T12:00:00Z") from None
    if time > datetime.now(UTC):
        raise ValueError("changed_at is in the future")
    return time


def shown_problems(problems: Iterable[str], most: int = 20) -> Iterator[str]:
    """Yield what is wrong with the first lines, and how many more there are."""
    listed = list(problems)
    yield from listed[:most]
    if len(listed) > most:
        yield f"and {len(listed) - most:,} more"
