"""What a handler raised or said, as one line of at most MAX_CHARACTERS that the log may show (I9).

An author's exception may quote anything of the event, escaped as JSON or a URL has it. So pieces of its text, phone
numbers and secrets in URLs are masked. What this service itself raised is not shown at all: it may quote a body that
nobody could read.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from shared.events import Event, ReplyEvent
from workers.deliver.unescaped import unescape, unescaped_text
from workers.handlers.mask import MASK, TEXT_KEYS, is_reply_text
from workers.handlers.number_mask import MIN_DIGITS, SEPARATED, hidden_positions, known_digits, mask_number
from workers.runtime.outcome import Done, Failed, InternalError, Outcome, Paused, Rejected, RetryRequested

# An operator reads it on one line.
MAX_CHARACTERS: Final = 256
# A shorter piece of a text, like "my order", may be words of the error itself.
_PIECE_CHARACTERS: Final = 8
_DIGITS: Final = re.compile(rf"\d{{{MIN_DIGITS},}}")
_INTERNATIONAL: Final = re.compile(rf"\+{SEPARATED}\d(?:{SEPARATED}\d){{6,}}")
_URL_SECRETS: Final = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?<=/callbacks/)/*[^/\s?]+", re.IGNORECASE)


def outcome_text(outcome: Outcome, events: Iterable[Event]) -> str:
    """Return what the handler raised or said with this outcome, or for a success what its target answered, masked.

    "" if that is nothing or may not be shown.

    `events`: those that the text may quote, for a batch all of the round.
    """
    if isinstance(outcome, InternalError):
        return ""
    if isinstance(outcome, Done):
        return masked_line(outcome.text, events) if outcome.answer else ""
    if isinstance(outcome, Failed):
        return masked_line(outcome.error, events)
    if isinstance(outcome, RetryRequested | Rejected | Paused):
        return masked_line(outcome.reason, events)
    return ""


def masked_line(text: str, events: Iterable[Event] = ()) -> str:
    """Return `text` in one line without quotation marks of its own, masked and truncated."""
    line = masked_text(_one_line(text).replace('"', "'"), events)
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def masked_text(text: str, events: Iterable[Event] = ()) -> str:
    """Return `text`, of any length, with phone numbers masked, and what it quotes of these events."""
    line = text
    numbers: set[str] = set()
    texts: set[str] = set()
    for event in events:
        numbers |= {number for number in (event.sender, event.recipient) if number is not None}
        if isinstance(event, ReplyEvent) and event.text:
            texts.add(event.text)
        texts.update(_texts_in(event.raw, is_reply=isinstance(event, ReplyEvent)))
    if numbers or texts:
        line = _mask_quoted(line, texts, numbers)
    line = _URL_SECRETS.sub(MASK, line)
    for pattern in (_INTERNATIONAL, _DIGITS):
        line = pattern.sub(lambda match: mask_number(match[0]), line)
    return line


def _texts_in(value: Any, key: str = "", *, is_reply: bool) -> Iterator[str]:
    """Yield what a record has, at any depth, under a key that may hold a person's words."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _texts_in(part, name.lower(), is_reply=is_reply)
    elif isinstance(value, list):
        for part in value:
            yield from _texts_in(part, key, is_reply=is_reply)
    elif isinstance(value, str) and (key in TEXT_KEYS or (is_reply and is_reply_text(key, value))):
        yield value


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def _mask_quoted(line: str, texts: Iterable[str], numbers: Iterable[str]) -> str:
    """Mask what the line quotes of these texts and numbers, however they are escaped there."""
    found = unescape(line)
    masked = list(line)
    for position in hidden_positions(found.text, known_digits(numbers)):
        start, end = found.starts[position], found.ends[position]
        masked[start:end] = ["*", *[""] * (end - start - 1)]
    for first, last in _quotations(found.text, texts):
        start, end = found.starts[first], found.ends[last - 1]
        masked[start:end] = ["\0"] * (end - start)
    return re.sub("\0+", MASK, "".join(masked))


def _quotations(line: str, texts: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield where a piece of one of the texts is, of _PIECE_CHARACTERS; of a shorter text, where it is a whole word."""
    positions: dict[str, list[int]] = {}
    for start in range(len(line) - _PIECE_CHARACTERS + 1):
        positions.setdefault(line[start : start + _PIECE_CHARACTERS], []).append(start)
    for text in {unescaped_text(text).strip() for text in texts} - {""}:
        if len(text) < _PIECE_CHARACTERS:
            yield from (match.span() for match in re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", line))
        else:
            pieces = (text[start : start + _PIECE_CHARACTERS] for start in range(len(text) - _PIECE_CHARACTERS + 1))
            yield from [(start, start + _PIECE_CHARACTERS) for piece in pieces for start in positions.get(piece, ())]
