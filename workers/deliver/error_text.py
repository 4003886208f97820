"""What a handler raised or said, as one line of at most MAX_CHARACTERS that the log may show (I9).

An author's exception may quote anything of the event. So pieces of its text, phone numbers and secrets in URLs are
masked. What this service itself raised is not shown at all: it may quote a body that nobody could read.
"""

import re
from collections.abc import Iterable
from typing import Final

from shared.events import Event, ReplyEvent
from workers.handlers.mask import mask_number
from workers.runtime.outcome import Failed, InternalError, Outcome, Paused, Rejected, RetryRequested

# An operator reads it on one line.
MAX_CHARACTERS: Final = 256
_MASK: Final = "***"
# A shorter piece of a text, like "my order", may be words of the error itself.
_PIECE_CHARACTERS: Final = 8
# As `mask_number` has it: fewer digits are no phone number.
_MIN_DIGITS: Final = 7
_DIGITS: Final = re.compile(rf"\d{{{_MIN_DIGITS},}}")
_SEPARATORS: Final = r"[ ()./\-]{0,2}"
_INTERNATIONAL: Final = re.compile(rf"\+{_SEPARATORS}\d(?:{_SEPARATORS}\d){{6,}}")
_URL_SECRETS: Final = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?<=/callbacks/)/*[^/\s?]+", re.IGNORECASE)


def error_text(outcome: Outcome, events: Iterable[Event]) -> str:
    """Return what the handler raised or said with this outcome, "" if it said nothing or may not be shown.

    `events`: those that the text may quote, for a batch all of the run.
    """
    if isinstance(outcome, InternalError):
        return ""
    if isinstance(outcome, Failed):
        return masked_line(outcome.error, events)
    if isinstance(outcome, RetryRequested | Rejected | Paused):
        return masked_line(outcome.reason, events)
    return ""


def masked_line(text: str, events: Iterable[Event] = ()) -> str:
    """Return `text` in one line without quotation marks of its own, masked and truncated."""
    line = _one_line(text).replace('"', "'")
    numbers: set[str] = set()
    quoted: set[str] = set()
    for event in events:
        numbers |= {number for number in (event.sender, event.recipient) if number is not None}
        if isinstance(event, ReplyEvent) and event.text:
            # As it is, and as repr() writes it, in an exception like KeyError.
            quoted |= {_one_line(form).replace('"', "'") for form in (event.text, repr(event.text)[1:-1])}
    line = _URL_SECRETS.sub(_MASK, _mask_texts(line, quoted) if quoted else line)
    for pattern in (_INTERNATIONAL, _DIGITS, *_patterns(line, numbers)):
        line = pattern.sub(lambda match: mask_number(match[0]), line)
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def _mask_texts(line: str, texts: Iterable[str]) -> str:
    """Mask each piece of one of the texts, from _PIECE_CHARACTERS on; a shorter text where it is a word of its own."""
    folded = _fold(line)
    positions: dict[str, list[int]] = {}
    for start in range(len(folded) - _PIECE_CHARACTERS + 1):
        positions.setdefault(folded[start : start + _PIECE_CHARACTERS], []).append(start)
    hidden = [False] * len(line)
    for text in map(_fold, texts):
        if len(text) < _PIECE_CHARACTERS:
            found = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", folded)]
        else:
            pieces = (text[start : start + _PIECE_CHARACTERS] for start in range(len(text) - _PIECE_CHARACTERS + 1))
            found = [(start, start + _PIECE_CHARACTERS) for piece in pieces for start in positions.get(piece, ())]
        for start, end in found:
            hidden[start:end] = [True] * (end - start)
    masked = "".join("\0" if is_hidden else character for character, is_hidden in zip(line, hidden, strict=True))
    return re.sub("\0+", _MASK, masked)


def _fold(text: str) -> str:
    """Return `text` in lower case, each character at its place: "İ" would become two."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text


def _patterns(line: str, numbers: Iterable[str]) -> list[re.Pattern[str]]:
    """Return what finds each of the numbers in the line with whatever separators it is written there."""
    digits_of_line = "".join(filter(str.isdigit, line))
    found = {"".join(filter(str.isdigit, number)) for number in numbers}
    return [
        re.compile(_SEPARATORS.join(digits))
        for digits in found
        if len(digits) >= _MIN_DIGITS and digits in digits_of_line
    ]
