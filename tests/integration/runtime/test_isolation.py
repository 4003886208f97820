"""One item among a thousand makes one of our functions raise: it alone becomes a failure, and the others go through.

Every function that a traced run passes with the item in its arguments is tried (see `injection`), with the item in the
first batch, in a coalesced one, and in the middle of a bundle.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from callbacks import ReportEvent, handler
from shared.batches import Accepted
from tests.integration.harness import HandlerTotals, Harness, open_harness, record, status, statuses
from tests.integration.runtime import injection
from tests.integration.runtime.injection import MARK
from tests.redis_server import RedisServer
from workers.deliver.prefetch import MAX_ITEMS, Prefetcher

ERRORS: Final[list[type[Exception]]] = [ValueError, RecursionError, MemoryError, UnicodeEncodeError, KeyError]

# Functions that have the whole job in their arguments, or make the item a failure: `test_failed_jobs` tries these.
OF_THE_JOB: Final = {
    "shared.batches:decode_callback",
    "shared.queues:parse_arguments",
    "shared.queues:_read_call",
    "shared.queues:check_version",
    "shared.queues:decompress",
    "shared.queues:is_expand_job",
    "shared.queues:unseal_call",
    "shared.sealed_data:unseal",
    "shared.queues:with_portions",
    "shared.stored_events:StoredEvents.__init__",
    "workers.jobs:deliver",
    "workers.jobs:expand",
    "workers.deliver.delivery:Deliverer._claim",
    "workers.deliver.delivery:Deliverer.run",
    "workers.expand.expansion:Expander.run",
    "workers.deliver.prefetch:Prefetcher.claim",
    "workers.runtime.claim:ClaimStep._read_coalesced",
    "workers.runtime.claim:ClaimStep.claim",
}
OF_THE_LADDER: Final = {
    "workers.expand.fan_out:Chunk.add",
    "workers.deliver.settler:Settler._decide",
    "workers.deliver.delivery_log:Attempts.add_delivered",
    "workers.deliver.settler:_Decisions.add_delivered",
    "workers.deliver.round:Round.mark_settled",
    "workers.deliver.round:_read_events",
    "workers.deliver.round:Round.settlements",
    "workers.expand.expansion:Expander._fan_out_or_split",
    "workers.expand.expansion:Expander._submit",
    "workers.expand.record_reader:RecordReader._read_or_split",
    "workers.expand.record_reader:RecordReader.read_items",
    "workers.runtime.settlement:append_list",
}
IN_EXPAND: Final = [
    "shared.sealed_data:seal_each",
    "shared.callback_events:encoded_from_callback",
    "shared.events:_digest",
    "shared.events:report_id",
    "shared.readable_records:is_plain",
    "shared.wire:read",
    "workers.expand.expansion:Expander._fan_out",
    "workers.expand.record_reader:RecordReader._offer",
    "workers.expand.record_reader:RecordReader._read_callback",
    "workers.expand.fan_out:FanOutStep.fan_out",
    "workers.expand.fan_out:_group_events",
    "workers.expand.fan_out:_texts",
]
# A small body is read at once, a large one part by part.
OF_SMALL: Final = ["shared.wire:_read_documented", "shared.wire:_read_at_once", "shared.wire:_decode_usual_status"]
# Of a record that is written in another way than the specification has it.
OF_UNUSUAL: Final = [
    "shared.callback_events:_EventReader.__init__",
    "shared.callback_events:_EventReader.read",
    "shared.callback_events:_compact",
    "shared.callback_events:_report",
    "shared.compact_events:compact_report",
    "shared.compact_events:report_values",
    "shared.normalize:sender",
    "shared.normalize:unix_ms",
]
OF_LARGE: Final = [
    "shared.json_reader:begins_numbered",
    "shared.json_reader:count_brackets",
    "shared.json_reader:decode_text",
    "shared.body_parser:split_array",
    "shared.body_parser:parse",
    "shared.json_reader:decode",
    "shared.json_reader:read_members",
    "shared.json_reader:check_nesting",
    "shared.json_reader:replace_lone_surrogates",
    "shared.readable_records:_decode_step",
    "shared.wire:_extra",
    "shared.body_parser:_find_faults",
    "shared.readable_records:join",
    "shared.body_parser:_kind_of",
    "shared.body_parser:_read_envelope",
    "shared.wire:_read_in_parts",
]
IN_DELIVER: Final = [
    "shared.events:_complete_report",
    "shared.events:complete",
    "shared.stored_events:decode",
]
OF_CALLS: Final = {
    "single": [
        "workers.deliver.call.timeout:Alarm.call",
        "workers.deliver.call.caller:Caller._call_sync",
        "workers.deliver.call.caller:Caller.call",
        "workers.deliver.failure_ladder:FailureLadder._call",
    ],
    "whole": [
        "workers.deliver.call.timeout:Alarm.call",
        "workers.deliver.call.caller:Caller._call_sync",
        "workers.deliver.call.caller:Caller.call_batch",
    ],
    "several": [
        "workers.deliver.call.caller:Caller._call_async",
        "workers.deliver.call.caller:Caller._call_concurrently",
        "workers.deliver.call.caller:Caller.call",
        "workers.deliver.failure_ladder:FailureLadder._call",
    ],
}

# Delivered, dead, waiting, missing. What is raised around the call itself is the handler's failure, which is retried;
# and an event that is read or called alone does not pass the function that reads or calls all.
ONE_DEAD: Final = HandlerTotals(delivered=999, dead=1)
OUTCOMES: Final = {
    "workers.deliver.call.timeout:Alarm.call": HandlerTotals(delivered=999, waiting=1),
    "workers.deliver.call.caller:Caller.call_batch": HandlerTotals(delivered=1000),
    "shared.stored_events:decode": HandlerTotals(delivered=1000),
}

called: Counter[str] = Counter()
at_once: Counter[str] = Counter()


@handler(ReportEvent)
def single(event: ReportEvent) -> None:
    called[event.message_id] += 1


@handler(ReportEvent, batch=True)
def whole(events: list[ReportEvent]) -> None:
    called.update(event.message_id for event in events)


@handler(ReportEvent, concurrency=16)
async def several(event: ReportEvent) -> None:
    called[event.message_id] += 1
    at_once["now"] += 1
    at_once["max"] = max(at_once.values())
    await asyncio.sleep(0)
    at_once["now"] -= 1


HANDLERS: Final[dict[str, Callable[..., Any]]] = {"single": single, "whole": whole, "several": several}


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    called.clear()
    monkeypatch.setattr(Prefetcher, "_prefetch_count", lambda _self: MAX_ITEMS)
    with open_harness(quick_redis.url, single) as made:
        yield made


def in_the_first_batch() -> list[list[Accepted]]:
    ids = [str(n) for n in range(499)]
    return [statuses([*ids[:200], MARK, *ids[200:]], bundle=1), statuses([str(n) for n in range(500, 1000)], bundle=50)]


def in_a_coalesced_batch() -> list[list[Accepted]]:
    ids = [str(n) for n in range(999)]
    return [statuses(ids[:500], bundle=50), statuses(ids[500:600], bundle=1), statuses([MARK, *ids[600:]], bundle=1)]


def in_the_middle_of_a_bundle() -> list[list[Accepted]]:
    records = [record(str(n)) for n in range(999)]
    return [[status(*records[:500])], [status(*records[500:700], record(MARK), *records[700:])]]


def in_a_batch_of_unusual_records() -> list[list[Accepted]]:
    records = [record(str(n), error_code="7") for n in range(999)]
    return [[status(one) for one in (*records[:500], record(MARK, error_code="7"), *records[500:])]]


SCENARIOS: Final[dict[Callable[[], list[list[Accepted]]], list[str]]] = {
    in_the_first_batch: [*IN_EXPAND, *OF_SMALL],
    in_a_coalesced_batch: [*IN_EXPAND, *OF_SMALL],
    in_a_batch_of_unusual_records: [*IN_EXPAND, *OF_SMALL, *OF_UNUSUAL],
    in_the_middle_of_a_bundle: [*IN_EXPAND, *OF_LARGE],
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_function_on_the_way_through_expand_is_left_out(
    harness: Harness, scenario: Callable[[], list[list[Accepted]]]
) -> None:
    for batch in scenario():
        harness.accept(*batch)

    passed = injection.functions_with_the_item(harness.expand)

    assert passed - OF_THE_JOB - OF_THE_LADDER == set(SCENARIOS[scenario])


@pytest.mark.parametrize(
    ("scenario", "function", "error"),
    [
        (scenario, function, error)
        for scenario, functions in SCENARIOS.items()
        for function, error in zip(functions, itertools.cycle(ERRORS), strict=False)
    ],
)
def test_only_the_record_that_makes_expansion_raise_is_quarantined(
    harness: Harness,
    scenario: Callable[[], list[list[Accepted]]],
    function: str,
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for batch in scenario():
        harness.accept(*batch)

    with injection.raising(function, error):
        harness.expand()

    sums = harness.audit()
    assert sums.balances
    assert set(Counter(harness.waiting_event_ids(single)).values()) == {1}
    assert "action=job_failed" not in caplog.text
    if function in OF_LARGE:
        # Then its records are read one at a time, and each can be read.
        assert (sums.unique, sums.quarantined, sums.duplicate, sums.waiting) == (1000, 0, 0, 0)
        return
    assert (sums.unique, sums.quarantined, sums.duplicate, sums.waiting) == (999, 1, 0, 0)
    (entry,) = harness.quarantine()
    assert (entry["records"], MARK in entry["body"]) == ("1", True)
    assert error.__name__ in entry["error"]
    assert "raise made(error)" in entry["traceback"]


@pytest.mark.parametrize("error", ERRORS)
def test_each_error_is_caught(harness: Harness, error: type[Exception]) -> None:
    harness.accept(status(record("1"), record(MARK), record("2")))

    with injection.raising("shared.wire:read", error):
        harness.expand()

    assert (harness.audit().unique, harness.audit().quarantined, harness.audit().balances) == (2, 1, True)


def test_a_quarantined_record_can_be_replayed_once_it_can_be_read(harness: Harness) -> None:
    harness.accept(status(record("1"), record(MARK), record("2"), client_job_id="autumn"))
    with injection.raising("workers.expand.fan_out:_group_events", ValueError):
        harness.expand()
    (entry,) = harness.quarantine()

    harness.accept(Accepted("status", entry["source"], int(entry["received_ms"]), 1, entry["body"]))
    harness.expand()

    waiting = [event for events in harness.waiting_events(single) for event in events]
    assert [(event.message_id, event.client_job_id) for event in waiting] == [
        ("1", "autumn"),
        ("2", "autumn"),
        (MARK, "autumn"),
    ]


@pytest.mark.parametrize("name", HANDLERS)
def test_no_function_on_the_way_through_deliver_is_left_out(quick_redis: RedisServer, name: str) -> None:
    with open_harness(quick_redis.url, HANDLERS[name]) as harness:
        harness.accept(*statuses(["1", MARK, "2"]))
        harness.expand()

        passed = injection.functions_with_the_item(lambda: harness.deliver(HANDLERS[name]))

    assert passed - OF_THE_JOB - OF_THE_LADDER <= {*IN_DELIVER, *OF_CALLS[name]}


@pytest.mark.parametrize(
    ("name", "function", "error"),
    [
        (name, function, error)
        for name in HANDLERS
        for function, error in zip([*IN_DELIVER, *OF_CALLS[name]], itertools.cycle(ERRORS), strict=False)
    ],
)
@pytest.mark.parametrize("scenario", [in_the_first_batch, in_the_middle_of_a_bundle])
def test_only_the_event_that_makes_delivery_raise_is_a_dead_letter(  # noqa: PLR0917 # a table's columns
    quick_redis: RedisServer,
    scenario: Callable[[], list[list[Accepted]]],
    name: str,
    function: str,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    called.clear()
    monkeypatch.setattr(Prefetcher, "_prefetch_count", lambda _self: MAX_ITEMS)
    with open_harness(quick_redis.url, HANDLERS[name]) as harness:
        for batch in scenario():
            harness.accept(*batch)
        harness.expand()

        with injection.raising(function, error):
            harness.deliver(HANDLERS[name])

        expected = OUTCOMES.get(function, ONE_DEAD)
        assert harness.totals(HANDLERS[name]) == expected
        if expected == ONE_DEAD:
            (letter,) = harness.dead_letters(name)
            assert MARK in letter["event"]
            assert error.__name__ in letter["error"]
            assert "injection.py" in letter["traceback"]
            assert harness.leftover_keys() == set()
        assert len(called.keys() - {MARK}) == 999
        assert set(called.values()) == {1}, "none twice"
        assert "action=job_failed" not in caplog.text


def test_the_others_are_still_called_concurrently(quick_redis: RedisServer) -> None:
    with open_harness(quick_redis.url, several) as harness:
        harness.accept(*statuses([*map(str, range(99)), MARK], bundle=100))
        harness.expand()
        at_once.clear()

        with injection.raising("workers.deliver.call.caller:Caller.call", ValueError):
            harness.deliver(several)

        assert harness.totals(several) == HandlerTotals(delivered=99, dead=1)
        assert at_once["max"] == 16
