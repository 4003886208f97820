"""What stands on the shelves, as Python reads it: a row for a list, and the whole entry with body, event, traceback."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from shared import events, wire
from shared.errors import CallbacksError
from shared.stored_times import stored_ms, stored_time


class NotThere(CallbacksError):
    """There is no such entry (any more)."""


class StillUnreadable(CallbacksError):
    """It cannot be read by this release either; it stays where it is."""


class QuarantineRow(Struct, frozen=True, kw_only=True):
    """A quarantined callback without its body; `kind` is that of the URL it came to, None if that named none."""

    id: str
    received_at: str
    kind: wire.Kind | None
    source: str
    records: int
    error: str


class QuarantineEntry(QuarantineRow, frozen=True, kw_only=True):
    """A quarantined callback; `body` is as it was received."""

    received_ms: int
    body: bytes
    traceback: str = ""


class DeadLetterRow(Struct, frozen=True, kw_only=True):
    """An event that a handler gave up on, without the event: what it raised last, and how often it was tried."""

    id: str
    handler: str
    died_at: str
    attempts: int
    error: str


class DeadLetter(DeadLetterRow, frozen=True, kw_only=True):
    """An event that a handler gave up on."""

    traceback: str
    event: events.Event


QUARANTINE_ROW: Final = ("received_ms", "kind", "source", "records", "error")
QUARANTINE_ENTRY: Final = (*QUARANTINE_ROW, "body", "traceback")
DEAD_LETTER_ROW: Final = ("died_ms", "attempts", "error")
DEAD_LETTER: Final = (*DEAD_LETTER_ROW, "traceback", "event")


def quarantine_row(entry_id: str, values: Sequence[bytes]) -> QuarantineRow:
    """Read a row from the values of QUARANTINE_ROW."""
    return QuarantineRow(**_quarantined(entry_id, dict(zip(QUARANTINE_ROW, values, strict=True))))


def quarantine_entry(entry_id: str, values: Sequence[bytes]) -> QuarantineEntry:
    """Read an entry from the values of QUARANTINE_ENTRY."""
    fields = dict(zip(QUARANTINE_ENTRY, values, strict=True))
    return QuarantineEntry(
        **_quarantined(entry_id, fields),
        received_ms=stored_ms(fields["received_ms"]),
        body=fields["body"],
        traceback=(fields["traceback"] or b"").decode(errors="replace"),
    )


def dead_letter_row(handler: str, event_id: str, values: Sequence[bytes]) -> DeadLetterRow:
    """Read a row from the values of DEAD_LETTER_ROW."""
    return DeadLetterRow(**_died(handler, event_id, dict(zip(DEAD_LETTER_ROW, values, strict=True))))


def dead_letter(handler: str, event_id: str, values: Sequence[bytes]) -> DeadLetter:
    """Read a dead letter from the values of DEAD_LETTER. Raises StillUnreadable, if a newer release wrote its event."""
    fields = dict(zip(DEAD_LETTER, values, strict=True))
    try:
        (event,) = events.decode(b"[%s]" % fields["event"])
    except msgspec.DecodeError as exc:
        raise StillUnreadable(str(exc)) from exc
    return DeadLetter(
        **_died(handler, event_id, fields), traceback=fields["traceback"].decode(errors="replace"), event=event
    )


def _quarantined(entry_id: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": entry_id,
        "received_at": events.rfc3339(stored_time(fields["received_ms"])),
        "kind": msgspec.convert(fields["kind"].decode() or None, wire.Kind | None),
        "source": fields["source"].decode(),
        "records": int(fields["records"]),
        "error": fields["error"].decode(errors="replace"),
    }


def _died(handler: str, event_id: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": event_id,
        "handler": handler,
        "died_at": events.rfc3339(stored_time(fields["died_ms"])),
        "attempts": int(fields["attempts"]),
        "error": fields["error"].decode(errors="replace"),
    }
