"""What of a callback goes to the quarantine, and how it gets there."""

from typing import Final

import msgspec

from shared import batches, events, keys
from shared.batches import Accepted
from workers.runtime import outcome
from workers.runtime.settlement import FanOutEvent, NewFailure

# Behind the tag, with which an event's array begins.
_RAW: Final = {"report": 1 + events.ReportEvent.__struct_fields__.index("raw"),
               "reply": 1 + events.ReplyEvent.__struct_fields__.index("raw")}  # fmt: skip
_JOB_KEYS: Final = ("api_job_id", "client_job_id")
_JOB: Final = {name: 1 + events.ReportEvent.__struct_fields__.index(name) for name in _JOB_KEYS}


def unreadable(kept: Accepted, error: str, body: bytes, *, records: int, traceback: str = "") -> NewFailure:
    """Return the entry for `body`, which is `kept`'s or what of it cannot be read."""
    failure_id, fields = batches.new_quarantine_failure(
        batches.Quarantined(
            kind=kept.kind,
            source=kept.source,
            received_ms=kept.received_ms,
            error=error,
            body=body,
            records=records,
            traceback=traceback,
        )
    )
    return NewFailure(
        key=keys.quarantined(failure_id),
        failure_id=failure_id,
        time_ms=kept.received_ms,
        lifetime_seconds=keys.FAILURE_EXPIRY_SECONDS,
        fields=fields,
        kind=batches.counted_kind(kept.kind),
        records=records,
    )


def body(kept: Accepted) -> bytes:
    """Return a callback's body, whatever is in it."""
    return kept.body.encode("utf-8", "surrogatepass")


def failed(kept: Accepted, error: BaseException, *, records: int) -> NewFailure:
    """Return the entry for a callback with which this service failed."""
    found = outcome.internal_error(error)
    return unreadable(kept, found.error, body(kept), records=records, traceback=found.traceback)


def failed_offer(origin: Accepted, offer: FanOutEvent, error: BaseException) -> NewFailure:
    """Return the entry for one event of a callback that could not be fanned out: as a callback that brings it alone."""
    found = outcome.internal_error(error)
    return unreadable(origin, found.error, _alone(offer), records=1, traceback=found.traceback)


def _alone(offer: FanOutEvent) -> bytes:
    try:
        array = msgspec.json.decode(offer.event)
        raw = array[_RAW[array[0]]]
        if array[0] == "report":
            raw = {name: array[place] for name, place in _JOB.items() if array[place] is not None} | {"data": [raw]}
        return msgspec.json.encode(raw)
    except Exception:  # noqa: BLE001 # it is kept in any case, if not in a form that can be replayed
        return offer.event


def job(data: bytes, error: BaseException, *, records: int) -> NewFailure:
    """Return the entry for a whole job of the queue "expand" that nobody can read."""
    found = outcome.internal_error(error)
    kept = Accepted("status", "", batches.now_ms(), records, "")
    entry = unreadable(kept, found.error, data, records=records, traceback=found.traceback)
    return msgspec.structs.replace(entry, kind="unknown", fields={**entry.fields, "kind": ""})
