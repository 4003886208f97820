"""Phone numbers as they are compared: by their digits, however they are written.

A number is shown as it was received. `+43 (664) 123-4567`, `0043 664 1234567` and `436641234567` are the same number. A
national number (0664 1234567) is not completed: nobody can know its country. A sender's name ("ACME24") is not a number
and is compared as text.
"""

import re
from typing import Final

# What people and their programs write between and around digits: blanks (also those that do not break a line, or cannot
# be seen), dashes, brackets, full stops, slashes, marks of direction, and the full-width forms of all these.
SEPARATORS: Final = (
    "+-()[]./_ \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\xad"
    "\u058a\u05be\u061c\u1400\u1680\u1806\u180e"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f"
    "\u2010\u2011\u2012\u2013\u2014\u2015\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u202f\u2044\u205f\u2060"
    "\u2066\u2067\u2068\u2069\u207a\u207b\u207d\u207e\u2212\u2215\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u2e5d\u3000\u301c\u3030\u30a0"
    "\ufe31\ufe32\ufe58\ufe59\ufe5a\ufe62\ufe63\ufeff\uff08\uff09\uff0b\uff0d\uff0e\uff0f\uff3b\uff3d"
)
# How a number for another country begins where the telephone has no +.
INTERNATIONAL_PREFIX: Final = "00"

_NO_SEPARATORS: Final = str.maketrans("", "", SEPARATORS)


def between_digits(others: str = "") -> str:
    """Return a pattern of what may be between two digits of a number: up to three SEPARATORS, or of `others`.

    That is not more than a blank, a bracket and a mark that cannot be seen.
    """
    return f"[{re.escape(SEPARATORS + others)}]{{0,3}}"


def comparable(number: str) -> str:
    """Return the digits of a phone number in ASCII, without an international prefix; any other text as it is."""
    if number.isdigit() and number[0] != "0" and number.isascii():  # as the gateway writes numbers
        return number
    digits = _digits(number)
    if not digits:
        return number
    abroad = digits.removeprefix(INTERNATIONAL_PREFIX)
    # What is left of "00" or of "000664" is not an international number.
    return digits if abroad[:1] in ("", "0") else abroad


def contains(number: str, part: str) -> bool:
    """Return whether the digits of `part` are within a phone number, or the text `part` is within a name."""
    digits, wanted = _digits(number), _digits(part)
    if not digits or not wanted:
        return not digits and not wanted and bool(part) and part in number
    # An international prefix can only be at the beginning.
    key = comparable(part)
    return wanted in comparable(number) if key == wanted else comparable(number).startswith(key)


def _digits(text: str) -> str:
    """Return the digits of a text that has nothing else but separators; "" for any other."""
    if text.isascii() and text.isdigit():  # as the gateway writes numbers
        return text
    bare = text.translate(_NO_SEPARATORS)
    if not bare.isdecimal():
        return ""
    return bare if bare.isascii() else "".join(str(int(digit)) for digit in bare)
