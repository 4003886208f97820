"""The handler `log`: every event as one JSON line, on standard output or at the end of a file.

    CALLBACKS_LOG_FILE      where the lines go; standard output where it is empty or missing
    CALLBACKS_LOG_NUMBERS   masked (the default): 35679*****123 for a phone number; full: as it came

These lines are data that the user asked for, so a reply's text stands in them; point them where such texts may
be. An event is written again where its first write failed half-way: readers who count go by its `id`.
"""

import fcntl
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from workers import Event, ReplyEvent, ReportEvent, handler

# Where a record of either kind carries a number or a sender's name.
_NUMBER_KEYS: Final = frozenset(("to", "from", "sms_from", "viber_from"))
# Numbers have 7 to 15 digits (gateway's integrations); fewer are short codes, which belong to nobody.
_LEAST_DIGITS: Final = 7
_HIDDEN_DIGITS: Final = 5
# People's own files: the service's group may read them, others may not.
_FILE_MODE: Final = 0o640


class Lines:
    """Writes events as lines, to `path` (None: standard output), with numbers masked or not."""

    def __init__(self, path: Path | None, *, masked: bool) -> None:
        self.path = path
        self.masked = masked

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read the two variables. Raises ValueError, which names the variable that is wrong."""
        numbers = environ.get("CALLBACKS_LOG_NUMBERS", "").strip() or "masked"
        if numbers not in ("masked", "full"):
            raise ValueError(f"CALLBACKS_LOG_NUMBERS: must be masked or full, not {numbers!r}")
        name = environ.get("CALLBACKS_LOG_FILE", "").strip()
        path = Path(name) if name else None
        if path is not None and path.is_dir():
            raise ValueError(f"CALLBACKS_LOG_FILE: {name!r} is a folder, not a file")
        return cls(path, masked=numbers == "masked")

    def write(self, events: Sequence[Event]) -> None:
        """Write the events' lines at once, into a file whole, whatever other processes write there. Raises OSError."""
        lines = (masked(event) if self.masked else event for event in events)
        data = "".join(event.to_json() + "\n" for event in lines).encode()
        if self.path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            _append(self.path, data)


def masked(event: Event) -> Event:
    """Give `event` without whole phone numbers, neither in its fields nor in what was received."""
    numbers = {number for number in (event.sender, event.recipient) if number is not None}
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    for name, value in fields.items():
        if name != "text" and value.__class__ is str and value in numbers:
            fields[name] = mask(value)
    fields["raw"] = _masked_raw(event.raw, numbers)
    return type(event)(**fields)


def mask(value: str) -> str:
    """Hide the middle of a phone number, at least five digits of it: 3567912345123 becomes 35679*****123.

    A text with fewer than seven digits is no phone number ("Fortytwo", the short code 12345) and stays.
    """
    digits = sum(character.isdigit() for character in value)
    if digits < _LEAST_DIGITS:
        return value
    last = min(3, digits - _HIDDEN_DIGITS)
    first = min(5, digits - _HIDDEN_DIGITS - last)
    shown, seen = [], 0
    for character in value:
        if character.isdigit():
            seen += 1
            shown.append(character if seen <= first or seen > digits - last else "*")
        else:
            shown.append(character)
    return "".join(shown)


def _masked_raw(raw: dict[str, Any], numbers: set[str]) -> dict[str, Any]:
    """Copy `raw` with its numbers masked: under the known keys, and wherever the event's own two stand alone."""
    copy = dict(raw)
    # No recursion: a record may be nested almost as deeply as Python's stack allows.
    open_nodes: list[tuple[dict[str, Any] | list[Any], bool]] = [(copy, False)]
    while open_nodes:
        node, within_number = open_nodes.pop()
        places: list[tuple[Any, Any]] = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, value in places:
            is_number = within_number or key in _NUMBER_KEYS
            if isinstance(value, dict | list):
                node[key] = value.copy()
                open_nodes.append((node[key], is_number))
            elif isinstance(value, str | int) and not isinstance(value, bool) and key != "text":
                text = str(value)
                hidden = mask(text) if is_number or text in numbers else text
                if hidden != text:
                    node[key] = hidden
    return copy


def _append(path: Path, data: bytes) -> None:
    """Append `data` while nobody else of ours does; make the file, and its folders, if it is not there (any more)."""
    try:
        target = _open(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = _open(path)
    try:
        if stat.S_ISREG(os.fstat(target).st_mode):
            fcntl.flock(target, fcntl.LOCK_EX)  # given back when it is closed
            size = os.fstat(target).st_size
            if size and os.pread(target, 1, size - 1) != b"\n":
                data = b"\n" + data  # a process was killed, or the disk full, in the middle of a line: leave it there
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    finally:
        os.close(target)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)


# Read when the module is loaded, so that a wrong value stops the start and not the thousandth event.
_lines = Lines.of(os.environ)


@handler(ReportEvent, ReplyEvent, name="log", batch=True)
def log(events: Sequence[Event]) -> None:
    """Write each event of the batch as one line."""
    _lines.write(events)
