"""The dead letters of a handler as JSON lines or CSV, before they are dropped.

By default numbers and texts of people are masked, and the event itself is left out. In full a line has the event and
the error as the handler raised it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from shared.csv_text import csv_line
from workers.deliver.error_text import masked_line
from workers.failures.event_summary import summarize
from workers.failures.failure import DeadLetter, DeadLetterSummary
from workers.handlers.number_mask import mask_number

COLUMNS: Final = ("handler", "id", "died_at", "attempts", "kind", "message_id", "status", "number", "error")


def iterate_lines(
    letters: Iterable[DeadLetter | DeadLetterSummary], *, as_csv: bool, is_full: bool = False
) -> Iterator[str]:
    """Yield a line, with its end, for each dead letter; before them the header of CSV."""
    columns = (*COLUMNS, "event") if is_full else COLUMNS
    if as_csv:
        yield csv_line(columns)
    for letter in letters:
        fields = _fields(letter, is_full=is_full)
        if as_csv:
            yield csv_line([fields[name] for name in columns])
        else:
            yield msgspec.json.encode(fields | _event_field(letter, is_full=is_full)).decode() + "\n"


def _fields(letter: DeadLetter | DeadLetterSummary, *, is_full: bool) -> dict[str, Any]:
    event = letter.event if isinstance(letter, DeadLetter) else None
    number = None
    which: dict[str, Any] = {"kind": None, "message_id": None, "status": None}
    if event is not None:
        which = {**summarize(event)}
        number = which.pop("number")
    if number is not None and not is_full:
        number = mask_number(number)
    fields = {
        "handler": letter.handler,
        "id": letter.id,
        "died_at": letter.died_at,
        "attempts": letter.attempts,
        **which,
        "number": number,
        "error": _error(letter, is_full=is_full),
    }
    return fields | ({"event": None if event is None else event.to_json()} if is_full else {})


def _event_field(letter: DeadLetter | DeadLetterSummary, *, is_full: bool) -> dict[str, Any]:
    if not is_full or not isinstance(letter, DeadLetter):
        return {}
    return {"event": msgspec.Raw(letter.event.to_json().encode())}


def _error(letter: DeadLetter | DeadLetterSummary, *, is_full: bool) -> str:
    if not isinstance(letter, DeadLetter):
        return letter.error if is_full else masked_line(letter.error)
    return letter.whole_error if is_full else masked_line(letter.error, [letter.event])
