"""The layout of a callback in an expand job, with its body undecoded; see `shared.batches` for what becomes of it."""

from msgspec import Raw, Struct

from shared.schema import Kind


class StoredCallback(Struct, frozen=True, gc=False, array_like=True):
    """A callback as its job has it: `body` is JSON as it was received, or a JSON string of any other body.

    The fields are those of `batches.TracedAccepted`.
    """

    kind: Kind
    source: str
    received_ms: int
    records: int
    body: Raw
    trace: str = ""
