"""The one JSON form of events: their keys, one line whatever the text, times to the millisecond."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from tests.unit.example_events import REPLY, reply, report

# --- the one JSON form


def test_a_reports_json_has_these_keys_in_this_order() -> None:
    line = report(client_message_id=None).to_json()
    assert line == (
        '{"kind":"report","id":"' + report().id + '","source":"main","api_job_id":"8de46f30-6b0f",'
        '"client_job_id":"autumn","message_id":"14466445287300014003","client_message_id":null,"channel":"SMS",'
        '"status":"DELIVRD","is_final":true,"occurred_at":"2015-09-25T07:12:54.145Z","sender":"Fortytwo",'
        '"recipient":"35679000123","error_code":943,"received_at":"2015-09-25T07:12:55.987Z",'
        '"raw":{"type":"SMS","message_id":"14466445287300014003","status":"DELIVRD","timestamp":1443165174,'
        '"micro_timestamp":1443165174145,"to":"35679000123","from":"Fortytwo","client_message_id":null,'
        '"error_code":943}}'
    )


def test_a_replys_json_has_these_keys_in_this_order() -> None:
    line = json.loads(reply().to_json())
    assert list(line) == [
        "kind", "id", "source", "api_job_id", "client_job_id", "reply_message_id", "orig_message_id", "req_uuid",
        "channel", "occurred_at", "sender", "recipient", "text", "received_at", "raw",
    ]  # fmt: skip
    assert line["kind"] == "reply"
    assert line["text"] == "Grüße 👋🏽"
    assert line["raw"] == REPLY


def test_a_time_that_was_not_given_is_null() -> None:
    assert json.loads(report(timestamp=None, micro_timestamp=None).to_json())["occurred_at"] is None


@pytest.mark.parametrize("character", ["\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_the_json_is_one_line_whatever_the_text(character: str) -> None:
    event = reply(message={"text": f"one{character}two"}, extra={character: [character]})
    line = event.to_json()
    assert line.splitlines() == [line]
    assert json.loads(line)["text"] == f"one{character}two"
    assert json.loads(line)["raw"] == event.raw


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_json(text: str) -> None:
    line = reply(message={"text": text}).to_json()
    assert line.splitlines() == [line]
    assert json.loads(line)["text"] == (text or None)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_written_in_utc_to_the_millisecond(time: datetime) -> None:
    written = events.rfc3339(time)
    assert len(written) == len("2015-09-25T07:12:54.145Z")
    assert written.endswith("Z")
    assert timedelta(0) <= time - datetime.fromisoformat(written) < timedelta(milliseconds=1)


@given(st.integers(-62135596800000, 10**14 - 1))
def test_every_time_on_the_wire_is_exact_to_the_millisecond(unix_ms: int) -> None:
    assert (events.utc_time(unix_ms) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == unix_ms
