"""New failures of the quarantine: from a callback, a part of one, one event, or a whole job."""

import msgspec

from shared import batches, events, keys
from shared.batches import Accepted
from workers.runtime import outcome
from workers.runtime.settlement import NewFailure


def new_failure(accepted: Accepted, error: str, body: bytes, *, records: int, traceback: str = "") -> NewFailure:
    """Return the failure for `body`: that of `accepted`, or the part of it that cannot be read."""
    failure_id, fields = batches.new_quarantine_failure(
        batches.Quarantined(
            kind=accepted.kind,
            source=accepted.source,
            received_ms=accepted.received_ms,
            error=error,
            body=body,
            records=records,
            traceback=traceback,
        )
    )
    return NewFailure(
        key=keys.quarantined(failure_id),
        failure_id=failure_id,
        time_ms=accepted.received_ms,
        lifetime_seconds=keys.FAILURE_EXPIRY_SECONDS,
        fields=fields,
        kind=batches.counted_kind(accepted.kind),
        records=records,
    )


def encoded_body(accepted: Accepted) -> bytes:
    """Return a callback's body in UTF-8, lone surrogates included."""
    return accepted.body.encode("utf-8", "surrogatepass")


def from_failed_callback(accepted: Accepted, error: BaseException, *, records: int) -> NewFailure:
    """Return the failure for a callback whose processing raised `error`."""
    found = outcome.internal_error(error)
    return new_failure(accepted, found.error, encoded_body(accepted), records=records, traceback=found.traceback)


def from_failed_event(origin: Accepted, encoded: bytes, error: BaseException) -> NewFailure:
    """Return the failure for one event that could not be fanned out: as a callback with that event only."""
    found = outcome.internal_error(error)
    return new_failure(origin, found.error, _as_callback(encoded), records=1, traceback=found.traceback)


def _as_callback(encoded: bytes) -> bytes:
    try:
        (event,) = events.decode(b"[%b]" % encoded)
        if event.kind == "reply":
            return msgspec.json.encode(event.raw)
        job = {"api_job_id": event.api_job_id, "client_job_id": event.client_job_id}
        return msgspec.json.encode(
            {name: text for name, text in job.items() if text is not None} | {"data": [event.raw]}
        )
    except Exception:  # noqa: BLE001 # it is stored in any case, perhaps in a form that cannot be replayed
        return encoded


def from_job(data: bytes, error: BaseException, *, records: int) -> NewFailure:
    """Return the failure for a whole job of the queue "expand" that cannot be read."""
    found = outcome.internal_error(error)
    accepted = Accepted("status", "", batches.now_ms(), records, "")
    failure = new_failure(accepted, found.error, data, records=records, traceback=found.traceback)
    return msgspec.structs.replace(failure, kind="unknown", fields={**failure.fields, "kind": ""})
