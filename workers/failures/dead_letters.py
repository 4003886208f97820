"""New dead letters of a handler: from an event that was given up on, or from data that cannot be read as one."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from shared import batches, events, keys, sealed_data
from shared.keys import CountedKind
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import Failed, Outcome, Rejected, RetryRequested
from workers.runtime.settlement import Argument, NewFailure

_ID_BYTES: Final = 12


def from_event(
    handler: str,
    event: events.Event,
    attempt: int,
    outcome: Outcome,
    *,
    mask: Callable[[str, Iterable[events.Event]], str],
    encode: Callable[[events.Event], bytes] = events.encode,
) -> NewFailure:
    """Return the dead letter of an event after its last attempt.

    What the handler raised may quote a person's number or words: it is stored through `mask`, by which lists, groups
    and searches go, and as raised only for those who ask for it whole. `encode` returns the form in which the event is
    kept.
    """
    failure = _new_dead_letter(handler, event.id, encode(event), outcome, attempts=attempt, kind=event.kind)
    fields = dict(failure.fields)
    for name in ("error", "traceback"):
        whole = str(fields[name])
        fields[name] = mask(whole, (event,))
        if fields[name] != whole:
            fields[f"whole_{name}"] = whole
    return msgspec.structs.replace(failure, fields=fields)


def from_unreadable(handler: str, event: msgspec.Raw, outcome: Outcome, *, attempts: int) -> NewFailure:
    """Return the dead letter of what should be an event, as JSON."""
    encoded = bytes(event)
    try:
        decoded = msgspec.json.decode(event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        decoded = None
    kind: CountedKind = "unknown"
    event_id = hashlib.blake2b(encoded, digest_size=_ID_BYTES).hexdigest()
    if isinstance(decoded, list) and len(decoded) > 1 and isinstance(decoded[1], str) and decoded[1]:
        event_id = decoded[1]
        with contextlib.suppress(ValueError, TypeError):
            kind = events.kind_of(decoded)
    return _new_dead_letter(handler, event_id, encoded, outcome, attempts=attempts, kind=kind)


def from_job(handler: str, job_id: str, data: bytes, error: BaseException, *, records: int) -> NewFailure:
    """Return the dead letter of a whole job that cannot be read; `records` is how many events it holds."""
    outcome = outcomes.internal_error(error)
    return _new_dead_letter(handler, job_id, data, outcome, attempts=0, kind="unknown", records=records)


def _new_dead_letter(
    handler: str,
    event_id: str,
    encoded: bytes,
    outcome: Outcome,
    *,
    attempts: int,
    kind: CountedKind,
    records: int = 1,
) -> NewFailure:
    now_ms = batches.now_ms()
    fields: dict[str, Argument] = {
        "event": encoded,
        "error": _error_text(outcome),
        "traceback": outcome.traceback if isinstance(outcome, Failed) else "",
        "attempts": attempts,
        "died_ms": now_ms,
    }
    # Otherwise the first word of the event is its kind, which scripts read there.
    if sealed_data.is_on() or not encoded.startswith(b'["%b"' % kind.encode()):
        fields |= {"kind": kind, "records": records}
    key = keys.dead_letter(handler, event_id)
    return NewFailure(key, event_id, now_ms, keys.FAILURE_EXPIRY_SECONDS, fields, kind, records)


def _error_text(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return outcome.error
    return outcome.reason if isinstance(outcome, RetryRequested | Rejected) else ""
