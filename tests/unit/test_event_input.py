"""Events from a file: lines of an event's JSON, or a callback's body; anything else is an error in words."""

import json

import pytest

from callbacks import Event, samples
from tests.unit.example_events import REPLY, REPORT, STATUS
from workers.admin import event_input
from workers.admin.event_input import NoEvents


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_line_of_an_event_is_read_as_the_same_event(name: str) -> None:
    event = samples.named()[name]

    assert event_input.parse(event.to_json().encode()) == [event]


def test_several_lines_are_several_events_and_empty_lines_are_ignored() -> None:
    events: list[Event] = [samples.report(), samples.reply()]
    text = "\n\n".join(event.to_json() for event in events) + "\n"

    assert event_input.parse(text.encode()) == events


def test_every_event_of_a_callback_is_read_however_its_body_is_formatted() -> None:
    two = {**STATUS, "data": [REPORT, {**REPORT, "status": "SEEN"}]}
    for body in (json.dumps(two), json.dumps(two, indent=2), "\ufeff" + json.dumps(two)):
        found = event_input.parse(body.encode())
        assert [(event.kind, event.source) for event in found] == [("report", event_input.SOURCE)] * 2
    (reply,) = event_input.parse(json.dumps(REPLY).encode())
    assert reply.kind == "reply"


def test_a_list_of_callbacks_and_a_text_of_one_are_read_as_the_service_reads_them() -> None:
    for body in ([STATUS, REPLY], json.dumps([STATUS, REPLY])):
        assert [event.kind for event in event_input.parse(json.dumps(body).encode())] == ["report", "reply"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b" \n", "the file is empty"),
        (b"{", "JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[1]", "object"),
        (b'{"a": 1}', "neither a status callback"),
        (b'{"data": [{"message_id": "1", "status": "SEEN"}, {"message_id": "2"}]}', "$.data[1].status"),
        (b'{"kind": "report", "raw": {}}', "id, source"),
        (b'{"data": [{"message_id": "1", "status": "SEEN"}]}\n{"a": 1}', "line 2: neither"),
        (b'{"data": [{"message_id": "1", "status": "SEEN"}]}\nnonsense', "line 2: "),
    ],
)
def test_what_is_not_an_event_is_an_error_in_words(text: bytes, words: str) -> None:
    with pytest.raises(NoEvents) as error:
        event_input.parse(text)

    assert words in str(error.value)
    assert not str(error.value).endswith("$")


def test_an_event_with_a_value_of_a_wrong_type_is_refused() -> None:
    line = {**json.loads(samples.report().to_json()), "is_final": "perhaps"}

    with pytest.raises(NoEvents, match="bool"):
        event_input.parse(json.dumps(line).encode())
