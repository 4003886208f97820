"""What events are known by: the same for the same said in any way, another for anything else."""

import json
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events, wire
from tests.unit.example_events import RECEIVED, REPORT, read, reply, report

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
said = st.tuples(ids, st.none() | ids, ids, st.none() | st.integers(), st.none() | st.integers())


@given(said, said)
def test_reports_are_the_same_event_exactly_if_the_five_are_the_same(
    one: tuple[str, str | None, str, int | None, int | None], two: tuple[str, str | None, str, int | None, int | None]
) -> None:
    assert (events.report_id(*one) == events.report_id(*two)) == (one == two)


@pytest.mark.parametrize(
    "changed",
    [
        {"message_id": "14466445287300014004"},
        {"type": "VIBER"},
        {"type": None},
        {"status": "SEEN"},
        {"micro_timestamp": 1443165174146},
        {"error_code": 0},
        {"error_code": None},
    ],
)
def test_a_report_that_says_something_else_is_another_event(changed: dict[str, Any]) -> None:
    assert report(**changed).id != report().id


@pytest.mark.parametrize(
    "retold",
    [
        {"timestamp": "1443165174", "micro_timestamp": "1443165174145", "error_code": "943"},
        {"message_id": 14466445287300014003},
        {"timestamp": 1443165174145, "micro_timestamp": 1443165174145000},
        {"to": "35679000999", "from": "", "sms_from": "Fortytwo"},
        {"client_message_id": "c-2", "brand_new": [1, 2, 3]},
    ],
)
def test_a_report_retold_in_another_way_is_the_same_event(retold: dict[str, Any]) -> None:
    assert report(**retold).id == report().id


@given(st.randoms(), st.sampled_from([None, 1, "\t"]))
def test_neither_the_order_of_keys_nor_white_space_makes_another_event(
    order: random.Random, indent: int | str | None
) -> None:
    shuffled = list(REPORT.items())
    order.shuffle(shuffled)
    (event,) = read(json.dumps({"data": [dict(shuffled)]}, indent=indent).encode())
    assert event.id == report().id


def test_neither_source_nor_job_nor_time_of_receipt_makes_another_event() -> None:
    (event,) = events.of(
        wire.read(json.dumps({"data": [REPORT]}).encode(), None),
        source="other",
        received_at=RECEIVED + timedelta(days=1),
    )
    assert event.id == report().id


def test_a_reply_is_known_by_its_message_and_by_its_callback() -> None:
    assert reply(req_uuid="another", message={"text": "another"}).id == reply().id
    assert reply(reply_message_id=14466445287300014999).id == reply().id
    assert reply(reply_message_id="2").id != reply().id
    assert events.request_id("1") == events.request_id("1")
    # Three families of marks share one room in Redis.
    assert len({events.request_id("1"), events.reply_id("1"), events.report_id("1", None, "", None, None)}) == 3


def test_an_id_is_short_and_fit_for_keys_and_headers() -> None:
    assert len(report().id) == 24
    assert set(report().id) <= set("0123456789abcdef")


def test_ids_stay_the_same_from_version_to_version() -> None:
    # Another derivation would make every event of the last day new once more.
    assert events.report_id("14466445287300014003", "SMS", "DELIVRD", 1443165174145, 0) == "c3b4ed73b1b3a702402f9b62"
    assert events.reply_id("14466445287300014999") == "9aaf75ff5c4cd914b7693d55"
