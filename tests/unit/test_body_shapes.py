"""Bodies in other shapes than the documented one become events, through the web process and the reader of a worker."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
import pytest
from starlette.types import Message

from ingest.answers import Refused
from ingest.body import InFlight
from ingest.callbacks import CallbackReceiver
from ingest.group_commit import BatchEntry, Destination, GroupCommit
from ingest.sources import AddressRules, Tokens
from shared import body_shapes, events, json_reader, wire
from shared.batches import Accepted, Quarantined
from shared.cooperative import Stepwise, run_to_end
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Kind
from shared.setting_values import ANY_NETWORK, Token
from workers.expand.record_reader import RecordReader
from workers.runtime.settlement import FanOutEvents, NewFailure

KINDS: Final[tuple[Kind | None, ...]] = ("status", "reply", None)


def record(number: int) -> dict[str, Any]:
    return {"message_id": str(number), "status": "DELIVRD", "to": "35699000001", "note": 'ü😀 {["\\ud83d'}


def status(*numbers: int) -> dict[str, Any]:
    return {"api_job_id": f"job {numbers[0]}", "data": [record(number) for number in numbers]}


def reply(number: int) -> dict[str, Any]:
    return {"reply_message_id": str(number), "req_uuid": f"u{number}", "message": {"text": "Yes"}}


def text(value: Any) -> str:
    """Return `value` as a sender that encodes twice has it."""
    return json.dumps(value)


def lines(*values: Any, end: str = "\n") -> bytes:
    return end.join(json.dumps(value) for value in values).encode()


def encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


SHAPES: Final[dict[str, tuple[Any, str]]] = {
    "callbacks": ([status(1, 2), status(3)], "123"),
    "one callback": ([status(1)], "1"),
    "replies": ([reply(1), reply(2)], "12"),
    "both kinds": ([status(1), reply(2), status(3)], "123"),
    "records": ([record(1), record(2)], "12"),
    "one record": (record(1), "1"),
    "records and callbacks": ([record(1), record(2), status(3), record(4)], "1234"),
    "a text": (text(status(1, 2)), "12"),
    "a text of a text": (text(text(reply(1))), "1"),
    "a text of callbacks": (text([status(1), status(2)]), "12"),
    "a text of records": (text([record(1), record(2)]), "12"),
    "texts of callbacks": ([text(status(1)), text(reply(2))], "12"),
    "texts of records": ([text(record(1)), text(record(2))], "12"),
    "a text of texts": (text([text(status(1)), text(record(2))]), "12"),
    "lists in a list": ([[record(1), record(2)], [status(3)]], "123"),
    "data is a text": ({**status(1), "data": text([record(1), record(2)])}, "12"),
    "data is a text of a text": ({"data": text(text([record(1)]))}, "1"),
    "data is a text of one record": ({"data": text(record(1))}, "1"),
    "data has texts": ({"data": [text(record(1)), record(2), text(text(record(3)))]}, "123"),
    "a text whose data is a text": (text({"data": text([record(1)])}), "1"),
    "callbacks whose data are texts": ([{"data": text([record(1)])}, {"data": [text(record(2))]}], "12"),
    "data has gaps": ({**status(1), "data": {"0": record(1), "2": record(2), "10": text(record(3))}}, "123"),
    "data with gaps is a text": ({"data": text({"1": record(1), "3": record(2)})}, "12"),
    "repeated numbers": (b'{"data": { "1" : %b , "1":%b\n} }' % (encoded(record(1)), encoded(record(2))), "12"),
    "callbacks with gaps": ({"1": status(1, 2), "5": reply(3)}, "123"),
    "records with gaps": ({"1": record(1), "5": record(2)}, "12"),
    "a list with gaps in a list": ([{"1": record(1)}, status(2)], "12"),
    "lines": (lines(status(1), reply(2), record(3)), "123"),
    "lines of Windows": (lines(status(1), status(2), end="\r\n") + b"\r\n\r\n", "12"),
    "NUL": (encoded(status(1)) + b"\0", "1"),
    "NUL and a line": (encoded(reply(1)) + b"\n\0\0", "1"),
    "two marks": (b"\xef\xbb\xbf" * 2 + encoded(status(1)), "1"),
    "a mark, a list": (b"\xef\xbb\xbf \r\n" + encoded([status(1)]) + b"\n", "1"),
    "a text with a mark": (text("\ufeff" + json.dumps(status(1))), "1"),
    "half a pair": (b'[{"message_id":"1","status":"SEEN","x":"\\ud83d"},{"message_id":"2","status":"SEEN"}]', "12"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_each_report_and_each_reply_becomes_an_event(name: str, kind: Kind | None) -> None:
    value, ids = SHAPES[name]

    answer, committed = post(encoded(value), kind)

    assert answer == {"status": "accepted"}
    found = read(committed)
    assert "".join(identity(event) for event in found) == ids
    assert sum(entry.records for entry in committed) == len(ids)


def test_events_are_those_of_the_documented_shape() -> None:
    for value in ([status(1, 2), reply(3)], text([status(1, 2), reply(3)]), lines(status(1, 2), reply(3))):
        assert read(post(encoded(value), None)[1]) == [
            *read(post(encoded(status(1, 2)), None)[1]),
            *read(post(encoded(reply(3)), None)[1]),
        ]
    [event] = read(post(encoded({**status(1), "data": text([record(1)])}), "status")[1])
    assert (event.api_job_id, event.raw) == ("job 1", record(1))


def test_what_cannot_be_read_costs_itself_alone() -> None:
    value = [status(1), {"data": [{"message_id": "2"}]}, record(3), {"message_id": "4"}, 5, "six", reply(7)]

    answer, committed = post(encoded(value), "status")

    assert (answer["status"], answer["quarantined"]) == ("accepted", 4)
    assert "$.data[0].status (callback 2 of 4)" in answer["error"]
    [quarantined] = [entry for entry in committed if isinstance(entry, Quarantined)]
    assert json.loads(quarantined.body) == value[1]
    assert [identity(event) for event in read(committed)] == ["1", "3", "7"]
    [failure] = failures(committed)
    assert json.loads(cast(bytes, failure.fields["body"]))["data"] == value[3:6]


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"[[]]", b'""', b'"text"', b'"{"', b'"[]"', b"[1,2]", b"{}", b'["{}"]', b'{"message_id":"1"}',
        b'{"data":""}', b'{"data":"[]"}', b'{"data":"nonsense"}', b'{"data":"{\\"message_id\\":1"}',
        encoded([{"message_id": "1"}, {"data": []}]), encoded(text(text(text(text(status(1)))))),
        b"[" * 400 + encoded(record(1)) + b"]" * 400,
        encoded({"1": record(1), "x": record(2)}), encoded({"data": {"1": record(1), "data": []}}),
    ],
)  # fmt: skip
def test_what_holds_no_event_is_quarantined_as_received(body: bytes) -> None:
    for kind in KINDS:
        answer, [entry] = post(body, kind)
        assert answer["status"] == "quarantined"
        assert isinstance(entry, Quarantined)
        assert (entry.body, entry.error) == (body, answer["error"])


@pytest.mark.parametrize(
    "body",
    [
        encoded([status(1), status(2)])[:-1],
        encoded(text(status(1)))[:-1],
        lines(status(1), status(2))[:-1],
        encoded({"1": record(1), "2": record(2)})[:-1],
        encoded(status(1)) * 2,
        encoded(status(1)) + b"\nnonsense",
        b"\0",
        b"[1,2",
        b'"text',
        b"7 8",
        json.dumps(status(1), indent=1).encode()[:-1],
    ],
)
def test_what_was_cut_is_refused(body: bytes) -> None:
    for kind in KINDS:
        with pytest.raises(Refused) as refused:
            post(body, kind)
        assert refused.value.answer.status == 400


def test_a_thousand_callbacks_are_accepted_and_more_are_quarantined_whole() -> None:
    replies = [reply(number) for number in range(body_shapes.MAX_CALLBACKS + 1)]
    answer, committed = post(encoded(replies[:-1]), "reply")
    assert answer == {"status": "accepted"}
    assert len(read(committed)) == body_shapes.MAX_CALLBACKS
    answer, [entry] = post(encoded(replies), "reply")
    assert answer["status"] == "quarantined"
    assert isinstance(entry, Quarantined)
    assert "more than 1000 callbacks" in entry.error


def test_a_large_list_is_split_in_steps_and_into_one_callback() -> None:
    body = encoded([{"message_id": str(number), "status": "SEEN"} for number in range(20_000)])
    steps = 0
    for _ in split(body):
        steps += 1
    assert steps > 40
    [part] = run_to_end(split(body))
    assert part.shape == wire.Shape("status", 20_000)


@pytest.mark.parametrize("end", [b", ", b"\n"])
def test_copies_of_elements_and_lines_are_made_in_steps(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    body = end.join([encoded(record(1))] * 2000)
    body = b"[%b]" % body if end == b", " else body

    def count_steps() -> int:
        return sum(1 for _ in body_shapes.split(body, None, NotJson("what wire.check said")))

    before = count_steps()
    monkeypatch.setattr(body_shapes, "_COPIES_PER_STEP", 100)
    assert count_steps() >= before + 19


def test_a_list_with_gaps_is_split_in_steps() -> None:
    records = b",".join(b'"%d":%b' % (number, encoded(record(number))) for number in range(10_000))
    assert sum(1 for _ in json_reader.read_numbered(b"{%b}" % records, "$")) > 4
    assert run_to_end(wire.check_stepwise(b'{"data":{%b}}' % records, "status")).records == 10_000


def test_millions_of_empty_elements_are_not_made() -> None:
    body = b"[%b]" % b",".join([b"[]"] * 2_000_000)
    assert run_to_end(split(body)) == []


def split(body: bytes) -> Stepwise[list[body_shapes.Part]]:
    return body_shapes.split(body, None, UnexpectedShape("what wire.check said"))


class MemoryStore:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.entries: list[BatchEntry] = []

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        self.entries += batch
        return "redis"

    async def close(self) -> None:
        """Close nothing."""


def post(body: bytes, kind: Kind | None) -> tuple[dict[str, Any], list[BatchEntry]]:
    """Return the answer to `body`, and what was committed before it. Raises Refused."""
    store, in_flight = MemoryStore(), InFlight(1 << 30)

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def scenario() -> dict[str, Any]:
        commit = GroupCommit(store)
        receiver = CallbackReceiver(
            kind,
            addresses=AddressRules(allowed=ANY_NETWORK, trusted=()),
            tokens=Tokens([Token("fortytwo", "token")]),
            commit=commit,
            in_flight=in_flight,
            max_body_bytes=1 << 24,
            body_timeout_seconds=60,
        )
        scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [], "path_params": {"token": "token"}}
        committing = asyncio.create_task(commit.run())
        try:
            answer = await receiver.handle(scope, receive)
        finally:
            commit.close()
            await committing
        assert answer.status == 200
        document: dict[str, Any] = json.loads(answer.body["body"])
        return document

    answer = asyncio.run(scenario())
    assert in_flight.held_bytes == 0
    return answer, store.entries


def items(committed: Sequence[BatchEntry]) -> list[FanOutEvents | NewFailure]:
    reader = RecordReader([])
    return [item for entry in committed if isinstance(entry, Accepted) for item in reader.read_items(entry)]


def read(committed: Sequence[BatchEntry]) -> list[events.Event]:
    """Return the events that a worker reads of what was committed, without the time at which they were received."""
    encoded = [one for item in items(committed) if isinstance(item, FanOutEvents) for one in item.events]
    found = events.decode(b"[%b]" % b",".join(encoded))
    return [msgspec.structs.replace(event, received_at=events.utc_time(0)) for event in found]


def failures(committed: Sequence[BatchEntry]) -> list[NewFailure]:
    return [item for item in items(committed) if isinstance(item, NewFailure)]


def identity(event: events.Event) -> str:
    return (event.message_id if event.kind == "report" else event.reply_message_id) or ""
