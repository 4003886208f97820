"""The id of a refused callback in the quarantine: equal bodies of one source are one entry."""

from shared import batches
from shared.batches import Quarantined
from shared.schema import Kind

LONG = "s" * 63


def entry_id(source: str, kind: Kind | None = "status", body: bytes = b"x") -> str:
    refused = Quarantined(kind=kind, source=source, received_ms=1, error="", body=body, refused=400)
    return batches.new_quarantine_failure(refused)[0]


def test_equal_bodies_of_a_source_are_one_entry() -> None:
    assert entry_id("gw") == entry_id("gw")


def test_other_sources_kinds_and_bodies_are_other_entries_however_long_the_source_is() -> None:
    ids = [entry_id(f"{LONG}{end}", kind) for end in "ab" for kind in ("status", "reply", None)]
    assert len({*ids, entry_id(f"{LONG}a", body=b"y")}) == 7
