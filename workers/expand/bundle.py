"""A status callback cut into its records: each as a callback of its own, of the same job."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from shared import wire
from shared.batches import Accepted

_JOB_KEYS: Final = frozenset(("api_job_id", "client_job_id"))
_decode: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_records: Final = msgspec.json.Decoder(list[Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Bundle(Struct, frozen=True):
    """The records of a callback, as they were received, and what stood beside them."""

    kept: Accepted
    envelope: dict[str, Raw]
    records: list[Raw]

    def slice(self, first: int, last: int) -> Accepted:
        """Return the records from `first` up to `last` as a callback of their own."""
        value: dict[str, Any] = {**self.envelope, "data": self.records[first:last]}
        return Accepted(
            self.kept.kind, self.kept.source, self.kept.received_ms, last - first, str(_encode(value), encoding="utf-8")
        )


def split(kept: Accepted) -> Bundle | None:
    """Return the records of a callback; None where it has no list of them, or not as many as were counted."""
    try:
        envelope = _decode(kept.body.removeprefix("\ufeff").encode())
        records = _decode_records(envelope.pop("data"))
    except Exception:  # noqa: BLE001 # whatever it is, the callback stays whole
        return None
    if len(records) != kept.records:
        return None
    others = sum(len(key) + len(bytes(part)) for key, part in envelope.items() if key not in _JOB_KEYS)
    if others * len(records) > wire.MAX_EXTRA_BYTES:
        envelope = {key: part for key, part in envelope.items() if key in _JOB_KEYS}
    return Bundle(kept, envelope, records)
