"""The quarantine names the kind of a callback as all else does: a callback of statuses has reports."""

from typing import get_args

import pytest

from callbacks.ops.pages.failure_pages import KINDS
from shared.keys import CountedKind
from shared.schema import Kind
from workers.failures.cursor import FailureFilter
from workers.failures.failure import QuarantineRow


@pytest.mark.parametrize(("stored", "name"), [("status", "report"), ("reply", "reply"), (None, "unknown")])
def test_a_stored_kind_has_one_name_and_is_found_by_it(stored: Kind | None, name: str) -> None:
    row = QuarantineRow(
        id="a1", received_at="2026-01-01T00:00:00.000Z", kind=stored, source="gw", records=1, error="no data"
    )

    assert row.kind_name == name
    assert [kind for kind in KINDS if kind and FailureFilter(kind=kind).matches(row)] == [name]


def test_the_page_offers_all_kinds_by_these_names() -> None:
    assert set(KINDS) == {"", *get_args(CountedKind)}
