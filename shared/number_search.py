"""Search texts for phone numbers, many numbers at once, however each is written in the text.

The digits of a number may have separators between them (`shared.phone_numbers`), may be of any script, and may be
escaped as JSON or a URL does it. A text is read once for each way to read it, whatever the number of numbers. A longer
number that contains a wanted one is another number, and does not match.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Self
from urllib.parse import unquote

from shared import phone_numbers

# As the gateway's integrations have it. Shorter ones are short codes: they stand for a service, and in many texts.
MIN_DIGITS: Final = 7
MAX_DIGITS: Final = 15
_MAX_RUN: Final = len(phone_numbers.INTERNATIONAL_PREFIX) + MAX_DIGITS
# What may be between two digits: any number of separators, as `phone_numbers.comparable` removes them all.
_BETWEEN: Final = f"[{re.escape(phone_numbers.SEPARATORS)}]++"
_RUN: Final = re.compile(rf"[0-9]+(?:{_BETWEEN}[0-9]+)*")
_GROUP: Final = re.compile("[0-9]+")
# JSON inside a JSON string has its escapes escaped: one backslash more for each level.
_ESCAPE: Final = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|[tnrf/])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# A URL within a URL has its escapes escaped.
_MAX_URL_LEVELS: Final = 3
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_OTHER_DIGIT: Final = re.compile(r"(?![0-9])\d")


# Two spellings that say another number than their digits: +43 (0)664 …, where the zero is only dialled within the
# country, and 436641234567.0, what spreadsheets make of a number.
_NOT_ITS_DIGITS: Final = re.compile(r"\d[^\d(]*\(\s*0\s*\)|\d[.,]0+\Z")


class NotANumber(ValueError):
    """Not a whole phone number: give 7 to 15 digits with the country's code, such as +356 99 123 456, without (0)."""


class NumberSearch:
    """Searches for `numbers`, each as `comparable_number` returns it."""

    def __init__(self, numbers: Iterable[str]) -> None:
        self.numbers = frozenset(numbers)

    @classmethod
    def parse(cls, spellings: Iterable[str]) -> Self:
        """Return the search for numbers as people write them. Raise NotANumber."""
        return cls(map(comparable_number, spellings))

    def is_number(self, text: str | None) -> bool:
        """Return whether a field that holds a number holds a wanted one."""
        return text is not None and phone_numbers.comparable(text) in self.numbers

    def find_in(self, text: str) -> bool:
        """Return whether a text mentions a wanted number."""
        return any(number in self.numbers for number in candidates(text))

    def find_in_bytes(self, data: bytes) -> bool:
        """Return whether bytes mention a wanted number, as UTF-8 or, if they hold NULs, as UTF-16."""
        return any(number in self.numbers for number in byte_candidates(data))


def comparable_number(spelling: str) -> str:
    """Return the digits of a phone number. Raise NotANumber."""
    if not says_its_digits(spelling):
        raise NotANumber(NotANumber.__doc__)
    digits = phone_numbers.comparable(spelling.strip())
    is_international = digits.isascii() and digits.isdigit() and not digits.startswith("0")
    if not (is_international and MIN_DIGITS <= len(digits) <= MAX_DIGITS):
        raise NotANumber(NotANumber.__doc__)
    return digits


def says_its_digits(spelling: str) -> bool:
    """Return whether the digits of a text are those of the number that a person means by it."""
    return _NOT_ITS_DIGITS.search(spelling.strip()) is None


def candidates(text: str) -> Iterator[str]:
    """Yield every number that a text may mention, as `comparable_number` returns it: several for `1 356 99 123456`."""
    yield from _plain_candidates(text)
    for _ in range(_MAX_URL_LEVELS):
        if "%" not in text or (decoded := unquote(text)) == text:
            return
        text = decoded
        yield from _plain_candidates(text)


def byte_candidates(data: bytes) -> Iterator[str]:
    """Yield the candidates in bytes: of their UTF-8 and, if they hold NULs or begin with a mark, of both UTF-16."""
    yield from candidates(data.decode(errors="replace"))
    if b"\0" in data or data.startswith(_UTF_16_MARKS):
        for charset in ("utf-16-le", "utf-16-be"):
            yield from candidates(data.decode(charset, errors="replace"))


def _plain_candidates(text: str) -> Iterator[str]:
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else " ", text)
        if _SURROGATE.search(text):  # JSON has two escapes for one character beyond U+FFFF, such as a bold digit
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if not text.isascii():
        text = _OTHER_DIGIT.sub(lambda match: str(int(match[0])), text)
    for run in _RUN.finditer(text):
        found = run[0]
        if len(found) < MIN_DIGITS:
            continue
        groups = [found] if found.isdigit() else _GROUP.findall(found)
        for first in range(len(groups)):
            joined = ""
            for group in groups[first:]:
                joined += group
                if len(joined) > _MAX_RUN:
                    break
                if len(joined) >= MIN_DIGITS:
                    yield joined.removeprefix(phone_numbers.INTERNATIONAL_PREFIX)
