"""A callback's records are read in order, so that a count of them says which are settled, whoever goes on, and how."""

import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batches import Accepted
from workers.expand import bundle
from workers.expand.record_reader import RecordReader
from workers.runtime.settlement import FanOutEvent, Item, NewFailure


def kept(readable: list[bool], **beside: Any) -> Accepted:
    """Return a callback whose records are readable or not, each with its place as its id."""
    records = [{"message_id": str(n), **({"status": "SEEN"} if ok else {})} for n, ok in enumerate(readable)]
    return Accepted("status", "gw", 1_700_000_000_000, len(records), json.dumps({**beside, "data": records}))


def places(items: list[Item]) -> list[tuple[str, bool]]:
    """Return the ids of the records that these items stand for, and whether each is an event."""
    found: list[tuple[str, bool]] = []
    for item in items:
        if isinstance(item, FanOutEvent):
            found.append((msgspec.json.decode(item.event)[5], True))
        else:
            records = json.loads(cast(bytes, item.fields["body"]))["data"]
            found += [(record["message_id"], False) for record in records[len(records) - item.records :]]
    return found


# More than that many unreadable ones, or none that is readable, and the callback is set aside whole.
bundles = st.lists(st.booleans(), min_size=1, max_size=12).filter(any)


@given(bundles, st.integers(0, 11))
def test_what_is_left_after_so_many_records_is_the_rest_of_them(readable: list[bool], skip: int) -> None:
    skip = min(skip, len(readable) - 1)

    items = list(RecordReader([]).read_items(kept(readable), skip=skip))

    assert places(items) == [(str(n), ok) for n, ok in enumerate(readable)][skip:]


@given(bundles, st.integers(0, 11), st.integers(0, 11))
def test_a_run_that_has_to_take_it_apart_goes_on_where_another_was(
    readable: list[bool], broken: int, skip: int
) -> None:
    skip, broken = min(skip, len(readable) - 1), min(broken, len(readable) - 1)
    reader = RecordReader([])
    offer = reader._offer

    def breaking(event: Any) -> FanOutEvent:
        if event.message_id == str(broken):
            raise ValueError("this one")
        return offer(event)

    reader._offer = breaking  # type: ignore[method-assign]

    items = list(reader.read_items(kept(readable), skip=skip))

    assert places(items) == [(str(n), ok and n != broken) for n, ok in enumerate(readable)][skip:]


def test_neighbours_that_cannot_be_read_are_one_entry() -> None:
    items = list(RecordReader([]).read_items(kept([True, False, False, True, False])))

    assert [item.records for item in items if isinstance(item, NewFailure)] == [2, 1]


def test_a_callback_that_has_killed_is_not_read() -> None:
    (item,) = RecordReader([]).read_items(Accepted("status", "gw", 1, 7, "no JSON"), skip=3, has_killed=True)

    assert isinstance(item, NewFailure)
    assert (item.records, item.fields["error"]) == (4, "3 workers died while they read it")


def test_more_records_than_were_accepted_are_set_aside_as_what_was_accepted() -> None:
    callback = msgspec.structs.replace(kept([True, True, True]), records=2)

    (item,) = RecordReader([]).read_items(callback)

    assert isinstance(item, NewFailure)
    assert item.records == 2


@pytest.mark.parametrize(("extra", "kept_beside"), [("x", True), ("x" * 400_000, False)])
def test_a_record_keeps_what_stood_beside_it_if_that_is_not_too_much(extra: str, kept_beside: bool) -> None:
    parts = bundle.split(kept([True] * 4, client_job_id="autumn", more=extra))

    assert parts is not None
    alone = msgspec.json.decode(parts.slice(2, 3).body)
    assert (alone["client_job_id"], alone["data"][0]["message_id"], "more" in alone) == ("autumn", "2", kept_beside)
