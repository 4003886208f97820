"""A callback's records are read in order, so that a number of settled records always means the same records."""

import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.batches import Accepted
from shared.metrics import MAX_UNKNOWN_STATUSES, Metrics
from workers.expand.fan_out import MAX_ITEM_EVENTS, RecordResult
from workers.expand.record_reader import RecordReader, split_records
from workers.filters import EventKind, Filters
from workers.runtime.settlement import FanOutEvents, NewFailure

# Written as the specification has it: adjacent ones are one item.
PLAIN = {"status": "SEEN", "type": "SMS", "micro_timestamp": 1_700_000_000_000, "to": "35679000123", "from": "Shop"}


def accepted(readable: list[bool], *, plain: bool = False, **envelope: Any) -> Accepted:
    """Return a callback whose records are readable or not, each with its index as its id."""
    members = PLAIN if plain else {"status": "SEEN"}
    records = [{"message_id": str(n), **(members if ok else {})} for n, ok in enumerate(readable)]
    return Accepted("status", "gw", 1_700_000_000_000, len(records), json.dumps({**envelope, "data": records}))


def records_of(items: list[RecordResult]) -> list[tuple[str, bool]]:
    """Return the ids of the records that these items stand for, and whether each is an event."""
    found: list[tuple[str, bool]] = []
    for item in items:
        if isinstance(item, FanOutEvents):
            found += [(event.raw["message_id"], True) for event in events.decode_each(item.events)]
        else:
            records = json.loads(cast(bytes, item.fields["body"]))["data"]
            found += [(record["message_id"], False) for record in records[len(records) - item.records :]]
    return found


# With more unreadable records, or without a readable one, the callback is quarantined whole.
bundles = st.lists(st.booleans(), min_size=1, max_size=12).filter(any)


@given(bundles, st.integers(0, 11), st.booleans())
def test_the_items_after_skipped_records_stand_for_the_rest(readable: list[bool], skip: int, plain: bool) -> None:
    skip = min(skip, len(readable) - 1)

    items = list(RecordReader([]).read_items(accepted(readable, plain=plain), skip=skip))

    assert records_of(items) == [(str(n), ok) for n, ok in enumerate(readable)][skip:]
    assert sum(item.records for item in items) == len(readable) - skip


def test_adjacent_events_that_the_same_handlers_want_are_one_item_of_limited_size() -> None:
    statuses = ["SEEN"] * 3 + ["DELIVRD"] + ["SEEN"] * (2 * MAX_ITEM_EVENTS)
    records = [{**PLAIN, "message_id": str(n), "status": name} for n, name in enumerate(statuses)]
    wanted: frozenset[EventKind] = frozenset(("report",))
    reader = RecordReader([Filters(name="seen", kinds=wanted, statuses=frozenset(("SEEN",)))])

    items = list(reader.read_items(Accepted("status", "gw", 1, len(records), json.dumps({"data": records}))))

    offers = [item for item in items if isinstance(item, FanOutEvents)]
    assert [(offer.records, offer.mask) for offer in offers] == [
        (3, "1"),
        (1, "0"),
        (MAX_ITEM_EVENTS, "1"),
        (MAX_ITEM_EVENTS, "1"),
    ]
    assert [event.id for offer in offers for event in events.decode_each(offer.events)] == [
        mark for offer in offers for mark in offer.marks
    ]
    assert records_of(items) == [(str(n), True) for n in range(len(records))]


def test_an_item_has_no_more_events_if_the_records_cannot_be_told_apart() -> None:
    readable = [True] * (2 * MAX_ITEM_EVENTS) + [False]

    items = list(RecordReader([]).read_items(accepted(readable, plain=True, api_job_id="\ud83d")))

    assert [item.records for item in items] == [MAX_ITEM_EVENTS, MAX_ITEM_EVENTS, 1]
    assert sum(isinstance(item, NewFailure) for item in items) == 1


@given(bundles, st.integers(0, 11), st.integers(0, 11))
def test_a_run_that_splits_a_callback_continues_where_another_stopped(
    readable: list[bool], broken: int, skip: int
) -> None:
    skip, broken = min(skip, len(readable) - 1), min(broken, len(readable) - 1)
    reader = RecordReader([])
    offer = reader._offer

    def breaking(event: Any, ids: list[str], encoded: list[bytes]) -> FanOutEvents:
        if event.message_id == str(broken):
            raise ValueError("this one")
        return offer(event, ids, encoded)

    reader._offer = breaking  # type: ignore[method-assign]

    items = list(reader.read_items(accepted(readable), skip=skip))

    assert records_of(items) == [(str(n), ok and n != broken) for n, ok in enumerate(readable)][skip:]


def test_adjacent_unreadable_records_are_one_failure() -> None:
    items = list(RecordReader([]).read_items(accepted([True, False, False, True, False])))

    assert [item.records for item in items if isinstance(item, NewFailure)] == [2, 1]


def test_a_callback_that_killed_workers_is_not_read() -> None:
    (item,) = RecordReader([]).read_items(Accepted("status", "gw", 1, 7, "no JSON"), skip=3, has_killed=True)

    assert isinstance(item, NewFailure)
    assert (item.records, item.fields["error"]) == (4, "3 workers died while they read it")


def test_a_callback_with_more_records_than_accepted_is_quarantined_with_the_accepted_number() -> None:
    callback = msgspec.structs.replace(accepted([True, True, True]), records=2)

    (item,) = RecordReader([]).read_items(callback)

    assert isinstance(item, NewFailure)
    assert item.records == 2


@pytest.mark.parametrize(("extra", "keeps_other_keys"), [("x", True), ("x" * 400_000, False)])
def test_a_split_record_keeps_the_other_keys_if_they_are_not_too_large(extra: str, keeps_other_keys: bool) -> None:
    parts = split_records(accepted([True] * 4, client_job_id="autumn", more=extra))

    assert parts is not None
    record = msgspec.json.decode(parts.slice(2, 3).body)
    assert (record["client_job_id"], record["data"][0]["message_id"], "more" in record) == (
        "autumn",
        "2",
        keeps_other_keys,
    )


def test_what_is_unusual_is_counted_by_name() -> None:
    metrics = Metrics()
    records = [
        {"message_id": "1", "status": "DELIVRD", "timestamp": "?", "error_code": {}},
        {"message_id": "2", "status": "READ", "timestamp": []},
        {"message_id": "3", "status": "35699000001"},
        {"message_id": "4", "status": "seen"},
    ]
    body = json.dumps({"client_job_id": {}, "data": records})

    list(RecordReader([], metrics=metrics).read_items(Accepted("status", "gw", 0, len(records), body)))

    assert metrics.snapshot() == {
        "unreadable|client_job_id": 1,
        "unreadable|error_code": 1,
        "unreadable|timestamp": 2,
        "unknown_status|READ": 1,
        "unknown_status|other": 1,
    }


def test_no_more_than_fifty_names_of_statuses_are_counted() -> None:
    metrics = Metrics()
    names = [f"NEW-{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(60)] * 2
    body = json.dumps({"data": [{"message_id": "1", "status": name} for name in names]})

    list(RecordReader([], metrics=metrics).read_items(Accepted("status", "gw", 0, len(names), body)))

    counted = metrics.snapshot()
    assert len(counted) == MAX_UNKNOWN_STATUSES + 1
    assert counted["unknown_status|other"] == 20
    assert counted["unknown_status|NEW-AA"] == 2


def test_a_reply_that_opts_out_goes_to_the_handlers_that_want_it_and_the_next_one_elsewhere() -> None:
    replies: frozenset[EventKind] = frozenset(("reply",))
    handlers = [
        Filters(name="optout", kinds=replies, opt_outs=True),
        Filters(name="chat", kinds=replies, opt_outs=False),
        Filters(name="log", kinds=replies),
    ]
    reader = RecordReader(handlers)

    masks = [
        item.mask
        for text in ("Stop!", "Yes", "START", "Yes", "stop")
        for item in reader.read_items(
            Accepted("reply", "gw", 1_700_000_000_000, 1, json.dumps({"req_uuid": "u", "message": {"text": text}}))
        )
        if isinstance(item, FanOutEvents)
    ]

    assert masks == ["101", "011", "101", "011", "101"]
