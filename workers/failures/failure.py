"""Failures as they are read: a row for a list, or the whole failure with its body or event, and its traceback."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from shared import batches, events, tracing
from shared.errors import CallbacksError
from shared.keys import CountedKind
from shared.schema import Kind
from shared.sealed_field import Unopened
from shared.stored_times import stored_ms, stored_time
from workers.failures.event_summary import summarize


class FailureNotFound(CallbacksError):
    """There is no such failure."""


class StillUnreadable(CallbacksError):
    """This release cannot read it either; it stays where it is."""


class QuarantineRow(Struct, frozen=True, kw_only=True):
    """A quarantined callback without its body; `kind` is that of its URL, None if the URL named none."""

    id: str
    received_at: str
    kind: Kind | None
    source: str
    records: int
    error: str

    @property
    def kind_name(self) -> CountedKind:
        """The kind of its events, as people and counters name it: "report", "reply" or "unknown"."""
        return batches.counted_kind(self.kind)


class QuarantinedCallback(QuarantineRow, frozen=True, kw_only=True):
    """A quarantined callback with its body as received.

    `answered` is the status that the sender got. If that was a refusal, `headers` has those that say how to read the
    body, and `repeats` counts how often the same body came again, `last_at` says when it last did.
    """

    received_ms: int
    body: bytes
    traceback: str = ""
    answered: int = 200
    headers: dict[str, str] = {}
    repeats: int = 0
    last_at: str | None = None


class DeadLetterRow(Struct, frozen=True, kw_only=True):
    """A dead letter without its event: the last error, and the number of attempts."""

    id: str
    handler: str
    died_at: str
    attempts: int
    error: str


class DeadLetterSummary(DeadLetterRow, frozen=True, kw_only=True):
    """A dead letter with what says which event it is; all None if its event cannot be read.

    The fields are those of `event_summary.EventSummary`.
    """

    kind: str | None = None
    message_id: str | None = None
    status: str | None = None
    number: str | None = None


class DeadLetter(DeadLetterRow, frozen=True, kw_only=True):
    """An event that a handler gave up on, with its traceback.

    Error and traceback are masked; `whole_error` and `whole_traceback` are as the handler raised them. `trace_id` is
    that of the event's trace, "" if it is not recorded.
    """

    traceback: str
    event: events.Event
    whole_error: str
    whole_traceback: str
    trace_id: str = ""


QUARANTINE_ROW_FIELDS: Final = ("received_ms", "kind", "source", "records", "error")
QUARANTINED_CALLBACK_FIELDS: Final = (
    *QUARANTINE_ROW_FIELDS, "body", "traceback", "refused", "headers", "repeats", "last_ms"
)  # fmt: skip
DEAD_LETTER_ROW_FIELDS: Final = ("died_ms", "attempts", "error")
DEAD_LETTER_FIELDS: Final = (*DEAD_LETTER_ROW_FIELDS, "whole_error", "whole_traceback", "traceback", "event")


def parse_quarantine_row(failure_id: str, values: Sequence[bytes]) -> QuarantineRow:
    """Return a row from the values of QUARANTINE_ROW_FIELDS."""
    return QuarantineRow(**_quarantine_values(failure_id, dict(zip(QUARANTINE_ROW_FIELDS, values, strict=True))))


def parse_quarantined_callback(failure_id: str, values: Sequence[bytes]) -> QuarantinedCallback:
    """Return a quarantined callback from the values of QUARANTINED_CALLBACK_FIELDS."""
    fields = dict(zip(QUARANTINED_CALLBACK_FIELDS, values, strict=True))
    return QuarantinedCallback(
        **_quarantine_values(failure_id, fields),
        received_ms=stored_ms(fields["received_ms"]),
        body=fields["body"],
        traceback=(fields["traceback"] or b"").decode(errors="replace"),
        answered=int(fields["refused"] or 200),
        headers=_decode_headers(fields["headers"]),
        repeats=int(fields["repeats"] or 0),
        last_at=events.rfc3339(stored_time(fields["last_ms"])) if fields["last_ms"] else None,
    )


def parse_dead_letter_row(handler: str, event_id: str, values: Sequence[bytes]) -> DeadLetterRow:
    """Return a row from the values of DEAD_LETTER_ROW_FIELDS."""
    return DeadLetterRow(
        **_dead_letter_values(handler, event_id, dict(zip(DEAD_LETTER_ROW_FIELDS, values, strict=True)))
    )


def parse_dead_letter_summary(handler: str, event_id: str, values: Sequence[bytes]) -> DeadLetterSummary:
    """Return a summary from the values of DEAD_LETTER_FIELDS."""
    fields = dict(zip(DEAD_LETTER_FIELDS, values, strict=True))
    row = _dead_letter_values(handler, event_id, fields)
    try:
        event = _decode_event(fields["event"])
    except StillUnreadable:
        return DeadLetterSummary(**row)
    return DeadLetterSummary(**row, **summarize(event))


def parse_dead_letter(handler: str, event_id: str, values: Sequence[bytes]) -> DeadLetter:
    """Return a dead letter from its values. Raise StillUnreadable if its event is a newer release's, or sealed."""
    fields = dict(zip(DEAD_LETTER_FIELDS, values, strict=True))
    event = _decode_event(fields["event"])
    return DeadLetter(
        **_dead_letter_values(handler, event_id, fields),
        traceback=fields["traceback"].decode(errors="replace"),
        event=event,
        # Absent if nothing had to be masked.
        whole_error=(fields["whole_error"] or fields["error"]).decode(errors="replace"),
        whole_traceback=(fields["whole_traceback"] or fields["traceback"]).decode(errors="replace"),
        trace_id=tracing.trace_id(events.read_trace(fields["event"])),
    )


def _decode_event(stored: bytes) -> events.Event:
    if isinstance(stored, Unopened):
        raise StillUnreadable(stored.decode())
    try:
        (event,) = events.decode(b"[%s]" % stored)
    except msgspec.DecodeError as exc:
        raise StillUnreadable(str(exc)) from exc
    return event


def _decode_headers(stored: bytes | None) -> dict[str, str]:
    if stored is None or isinstance(stored, Unopened):
        return {}
    return msgspec.json.decode(stored, type=dict[str, str])


def _quarantine_values(failure_id: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": failure_id,
        "received_at": events.rfc3339(stored_time(fields["received_ms"])),
        "kind": msgspec.convert(fields["kind"].decode() or None, Kind | None),
        "source": fields["source"].decode(),
        "records": int(fields["records"]),
        "error": fields["error"].decode(errors="replace"),
    }


def _dead_letter_values(handler: str, event_id: str, fields: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": event_id,
        "handler": handler,
        "died_at": events.rfc3339(stored_time(fields["died_ms"])),
        "attempts": int(fields["attempts"]),
        "error": fields["error"].decode(errors="replace"),
    }
