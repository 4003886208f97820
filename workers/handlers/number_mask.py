"""Masks phone numbers: one that stands alone, and known ones wherever a text has them, however they are written."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from shared import phone_numbers

# Phone numbers have 7 to 15 digits (gateway's integrations; E.164). Shorter ones are short codes, not personal data;
# longer ones are compared by their last ones.
MIN_DIGITS: Final = 7
_MAX_DIGITS: Final = 15
_HIDDEN_DIGITS: Final = 5
# What is shown of a number without its country code: with it, more would show the number.
_SHOWN_DIGITS: Final = 3
# Beyond those of `phone_numbers`: in numbers as people write amounts.
_OTHER_SEPARATORS: Final = ",'"
SEPARATED: Final = phone_numbers.between_digits(_OTHER_SEPARATORS)
_WITHOUT_SEPARATORS: Final = str.maketrans("", "", phone_numbers.SEPARATORS + _OTHER_SEPARATORS)


def mask_number(value: str) -> str:
    """Hide the middle of a phone number, at least five digits of it: 3567912345123 becomes 35679*****123.

    A text with fewer than seven digits ("Fortytwo", the short code 12345) is not a phone number and stays.
    """
    digits = sum(character.isdigit() for character in value)
    if digits < MIN_DIGITS:
        return value
    last = min(3, digits - _HIDDEN_DIGITS)
    first = min(5, digits - _HIDDEN_DIGITS - last)
    characters, seen = [], 0
    for character in value:
        if character.isdigit():
            seen += 1
            characters.append(character if seen <= first or seen > digits - last else "*")
        else:
            characters.append(character)
    return "".join(characters)


def known_digits(numbers: Iterable[str]) -> list[str]:
    """Return the digits of those that are phone numbers."""
    found = ("".join(filter(str.isdigit, phone_numbers.comparable(number))) for number in numbers)
    return [digits for digits in found if len(digits) >= MIN_DIGITS]


def mask_known(text: str, numbers: Collection[str], digits: Iterable[str]) -> str:
    """Return a text, such as an id of a client's, in which none of the numbers is whole; `digits`: their digits."""
    if text in numbers:
        return mask_number(text)
    hidden = list(hidden_positions(text, digits))
    if not hidden:
        return text
    masked = list(text)
    for position in hidden:
        masked[position] = "*"
    return "".join(masked)


def hidden_positions(text: str, digits: Iterable[str]) -> Iterator[int]:
    """Yield the positions of the digits to hide of each number, with whatever separators and without a country code."""
    joined = text.translate(_WITHOUT_SEPARATORS)
    for number in digits:
        end = number[-MIN_DIGITS:]
        if end not in joined:
            continue
        beginning = ""
        for digit in number[-_MAX_DIGITS:-MIN_DIGITS]:
            beginning = f"(?:{beginning}{digit}{SEPARATED})?"
        for match in re.finditer(beginning + SEPARATED.join(end), text):
            positions = [position for position in range(*match.span()) if text[position].isdigit()]
            if len(positions) >= min(len(number), _MAX_DIGITS):
                shown = mask_number(match[0])
                yield from (position for position in positions if shown[position - match.start()] == "*")
            # Without its country code it has nothing before it but a zero: else it is a part of a longer id.
            elif not _is_digit(text, match.start() - 1, "123456789") and not _is_digit(text, match.end()):
                yield from positions[:-_SHOWN_DIGITS]


def _is_digit(text: str, position: int, digits: str = "0123456789") -> bool:
    return 0 <= position < len(text) and text[position] in digits
