"""The ledger: a line of JSON for each callback that was acknowledged or discarded.

It holds enough to compare a receiver event by event without knowing the campaign. A callback in progress when a run is
interrupted has no line. Several runs may share a file, even at the same time: each line is one write to a file opened
for appending.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Struct

from callbacks.simulator.callback import CallbackKind
from callbacks.simulator.delivery import Attempt, CallbackDelivery
from callbacks.simulator.errors import InvalidOption, LedgerNotReadable, LedgerNotWritten
from callbacks.simulator.payloads import ReplyKey, ReportKey

# It may hold personal data, if a real system was tested.
_FILE_MODE: Final = 0o640


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One line: a callback and its final outcome."""

    kind: CallbackKind
    repeat: bool
    """Whether it repeats an earlier callback on purpose."""
    acknowledged: bool
    """True: the receiver answered exactly 200. False: discarded after the last attempt."""
    acknowledged_at: datetime | None
    attempts: tuple[Attempt, ...]
    reports: tuple[ReportKey, ...]
    """For each record: message_id, type, status, to, micro_timestamp, error_code; empty for a reply."""
    replies: tuple[ReplyKey, ...]
    """reply_message_id and req_uuid of the last attempt; empty for reports."""
    req_uuids: tuple[str, ...]
    """The req_uuid of each attempt of a reply, the last one that of `body`; empty for reports."""
    body: str
    """The body as the last attempt sent it; bytes that are not UTF-8 as \\xNN."""
    oddity: str = ""
    """What was odd about it; "" for a callback as documented."""


class UniqueEvents(Struct, frozen=True):
    """The events that a receiver must have, each once."""

    reports: frozenset[ReportKey]
    replies: frozenset[str]
    """By reply_message_id."""


class Ledger:
    """Appends lines to `path`, each in one write; a context manager. Raise InvalidOption("ledger", …)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _FILE_MODE)
        except OSError as exc:
            raise InvalidOption("ledger", path, f"cannot be written: {exc.strerror}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, delivery: CallbackDelivery) -> None:
        """Append the line of a finished delivery. Raise LedgerNotWritten."""
        line = self._encode(_entry(delivery)) + b"\n"
        try:
            written = os.write(self._file, line)
        except OSError as exc:
            raise LedgerNotWritten(f"{self._path}: {exc.strerror}") from exc
        if written != len(line):
            raise LedgerNotWritten(f"{self._path}: only {written} of {len(line)} bytes were written")


def read(path: Path) -> list[LedgerEntry]:
    """Return the lines of a ledger in the order they were written.

    An incomplete last line, which a run may be writing, is not returned. Raise LedgerNotReadable, which names the line,
    and OSError.
    """
    decode = msgspec.json.Decoder(LedgerEntry).decode
    *lines, _unfinished = path.read_bytes().split(b"\n")
    entries: list[LedgerEntry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise LedgerNotReadable(f"{path}, line {number}: {exc}") from exc
    return entries


def unique_events(entries: Iterable[LedgerEntry]) -> UniqueEvents:
    """Return the distinct reports and replies of acknowledged callbacks: what a receiver must have once."""
    acknowledged = [entry for entry in entries if entry.acknowledged]
    return UniqueEvents(
        reports=frozenset(key for entry in acknowledged for key in entry.reports),
        replies=frozenset(reply_message_id for entry in acknowledged for reply_message_id, _ in entry.replies),
    )


def _entry(delivery: CallbackDelivery) -> LedgerEntry:
    body = delivery.last_body
    sent = delivery.callback.bodies[: len(delivery.attempts)]
    return LedgerEntry(
        kind=delivery.callback.kind,
        repeat=delivery.callback.repeat,
        acknowledged=delivery.is_acknowledged,
        acknowledged_at=delivery.attempts[-1].ended_at if delivery.is_acknowledged else None,
        attempts=tuple(delivery.attempts),
        reports=body.reports,
        replies=body.replies,
        req_uuids=tuple(req_uuid for earlier in sent for _, req_uuid in earlier.replies),
        body=body.data.decode(errors="backslashreplace"),
        oddity=delivery.callback.oddity,
    )
