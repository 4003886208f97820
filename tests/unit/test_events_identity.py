"""The identity of events: the same for the same values in any form, another for other values."""

import json
import random
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import callback_events, events, wire
from tests.unit.example_events import RECEIVED, REPORT, read, reply, report

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
numbers = st.none() | st.from_regex(r"[1-9][0-9]{0,14}", fullmatch=True)
said = st.tuples(ids, ids, st.none() | ids, ids, numbers, st.none() | st.integers(), st.none() | st.integers())
Said: TypeAlias = tuple[str, str, str | None, str, str | None, int | None, int | None]


@given(said, said)
def test_two_reports_are_the_same_event_exactly_if_the_seven_values_are_equal(one: Said, two: Said) -> None:
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
        {"to": "35679000999"},
        {"to": None},
    ],
)
def test_a_report_with_other_values_is_another_event(changed: dict[str, Any]) -> None:
    assert report(**changed).id != report().id


@pytest.mark.parametrize(
    "retold",
    [
        {"timestamp": "1443165174", "micro_timestamp": "1443165174145", "error_code": "943"},
        {"message_id": 14466445287300014003},
        {"timestamp": 1443165174145, "micro_timestamp": 1443165174145000},
        {"from": "", "sms_from": "Fortytwo"},
        {"to": f"+{REPORT['to'][:5]} {REPORT['to'][5:]}"},
        {"to": f"00{REPORT['to']}"},
        {"to": int(REPORT["to"])},
        {"client_message_id": "c-2", "brand_new": [1, 2, 3]},
    ],
)
def test_a_report_with_the_same_values_in_another_form_is_the_same_event(retold: dict[str, Any]) -> None:
    assert report(**retold).id == report().id


@given(st.randoms(), st.sampled_from([None, 1, "\t"]))
def test_neither_the_order_of_keys_nor_white_space_makes_another_event(
    order: random.Random, indent: int | str | None
) -> None:
    shuffled = list(REPORT.items())
    order.shuffle(shuffled)
    (event,) = read(json.dumps({"data": [dict(shuffled)]}, indent=indent).encode())
    assert event.id == report().id


def test_another_source_makes_another_event_and_neither_job_nor_time_of_receipt_does() -> None:
    def read_again(source: str) -> str:
        callback = wire.read(json.dumps({"data": [REPORT]}).encode(), None)
        (event,) = callback_events.from_callback(callback, source=source, received_at=RECEIVED + timedelta(days=1))
        return event.id

    assert read_again(report().source) == report().id
    assert read_again("other") != report().id


def test_a_reply_is_identified_by_its_message_id_or_else_by_its_req_uuid() -> None:
    for missing in (None, ""):
        known = reply(reply_message_id=missing, req_uuid="1")
        assert (known.kind, known.reply_message_id) == ("reply", None)
        assert known.id == events.request_id(known.source, "1")
    assert reply(req_uuid="another", message={"text": "another"}).id == reply().id
    assert reply(reply_message_id=14466445287300014999).id == reply().id
    assert reply(reply_message_id="2").id != reply().id
    # Three families of marks share one key space in Redis.
    assert (
        len({events.request_id("s", "1"), events.reply_id("s", "1"), events.report_id("s", "1", None, "", None, 0, 0)})
        == 3
    )


def test_an_id_is_short_and_safe_in_keys_and_headers() -> None:
    assert len(report().id) == 24
    assert set(report().id) <= set("0123456789abcdef")


def test_ids_stay_the_same_from_version_to_version() -> None:
    # With other ids every event of the last day would be new again.
    report_id = events.report_id("main", "14466445287300014003", "SMS", "DELIVRD", "35679000123", 1443165174145, 0)
    assert report_id == "eeb85e8c38dd6bb337133520"
    assert events.reply_id("main", "14466445287300014999") == "864758d5627fd170bc1ac511"


def test_recipients_that_are_not_numbers_are_distinguished_by_their_text() -> None:
    recipients = ["Alpha", "Beta", "\u0663\u0665", "\u0663\u0666", "356*****001", "356*****002", None, "35699001"]

    def known_by(recipient: str | None) -> str:
        return events.report_id("main", "1", "SMS", "SEEN", recipient, None, None)

    assert len(set(map(known_by, recipients))) == len(recipients)
    assert known_by("+356 99-001") == known_by("35699001")
