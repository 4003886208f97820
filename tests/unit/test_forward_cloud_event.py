"""An event as a CloudEvent: what its attributes may hold, whatever a sender wrote."""

import json
from typing import Any

import msgspec
import pytest

from callbacks import Event
from tests.unit.example_events import reply, report
from workers.handlers.forward import cloud_event


def written(event: Event) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(cloud_event.render(event))
    return read


def test_it_is_the_structured_form_of_the_specification() -> None:
    event = report()

    assert written(event) == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/callbacks/main",
        "type": "callbacks.report",
        "subject": "14466445287300014003",
        "time": "2015-09-25T07:12:54.145Z",
        "datacontenttype": "application/json",
        "data": json.loads(event.to_json()),
    }


def test_a_replys_subject_is_its_own_id() -> None:
    assert written(reply())["subject"] == "14466445287300014999"
    assert written(reply())["type"] == "callbacks.reply"


def test_without_a_time_of_the_gateways_it_is_when_it_was_received() -> None:
    event = msgspec.structs.replace(report(), occurred_at=None)

    assert written(event)["time"] == "2015-09-25T07:12:55.987Z"


@pytest.mark.parametrize("message_id", ["", "a\x00b", "a\x7f", "\x85", "\ufdd0", "\U0001ffff"])
def test_a_message_id_that_no_attribute_may_hold_is_in_the_data_only(message_id: str) -> None:
    event = msgspec.structs.replace(report(), message_id=message_id)

    assert "subject" not in written(event)
    assert written(event)["data"]["message_id"] == message_id


@pytest.mark.parametrize("message_id", ["x", 'quote " and \\', "Ünïcödé 👋🏽", "\u2028", "a b"])
def test_any_other_message_id_is_the_subject(message_id: str) -> None:
    assert written(msgspec.structs.replace(report(), message_id=message_id))["subject"] == message_id


def test_a_source_is_a_reference_whatever_its_name() -> None:
    event = msgspec.structs.replace(report(), source="a b/ü?#")

    assert written(event)["source"] == "/callbacks/a%20b/%C3%BC%3F%23"


def test_it_is_one_line() -> None:
    assert len(cloud_event.render(reply(message={"text": "a\nb\r\u2028\x85"})).splitlines()) == 1
