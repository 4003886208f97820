"""A large body is checked in steps: the web process serves other requests between them."""

import asyncio
import functools
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pytest
from starlette.types import Message

from ingest.body import InFlight
from ingest.callbacks import CallbackReceiver
from ingest.group_commit import BatchEntry, Destination, GroupCommit
from ingest.sources import AddressRules, Tokens
from shared import body_parser, json_reader, readable_records, wire
from shared.cooperative import Stepwise, run_to_end
from shared.errors import NotJson, UnexpectedShape
from shared.setting_values import ANY_NETWORK, Token
from tests.unit.bodies import check_error

RECORD: Final = b'{"message_id":"1","status":"SEEN"}'
RECORDS: Final = 20 * readable_records.RECORDS_PER_STEP


def bundle(*others: bytes, records: int = RECORDS) -> bytes:
    return b'{"data":[%s]}' % b",".join([*[RECORD] * records, *others])


def steps_of(steps: Stepwise[object]) -> int:
    """Count the steps of `steps`."""
    number = 1
    try:
        while True:
            next(steps)
            number += 1
    except (StopIteration, UnexpectedShape, NotJson):
        return number


@pytest.mark.parametrize("others", [(), (b"{}",), (b'{"message_id":"1","status":"SEEN","new":1}',)])
def test_no_step_takes_more_than_its_records(others: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0

    def counted(decode: Callable[[Any], Any], part: Any) -> Any:
        nonlocal decoded
        decoded += bytes(part).count(b"{")
        return decode(part)

    for name in ("_decode_record", "decode_records"):
        monkeypatch.setattr(readable_records, name, functools.partial(counted, getattr(readable_records, name)))
    most = steps = 0
    for _ in wire.check_stepwise(bundle(*others), "status"):
        most, decoded, steps = max(most, decoded), 0, steps + 1
    # All at once, and then, if one is at fault, one by one.
    assert readable_records.RECORDS_PER_STEP <= most <= 2 * readable_records.RECORDS_PER_STEP
    assert steps > RECORDS // readable_records.RECORDS_PER_STEP


def test_unusual_records_are_read_one_by_one_in_shorter_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    fault_of = body_parser._fault_of

    def counted(part: msgspec.Raw, index: int) -> body_parser.RecordFault | None:
        nonlocal read
        read += 1
        return fault_of(part, index)

    monkeypatch.setattr(body_parser, "_fault_of", counted)
    unusual = RECORD[:-1] + b',"error_code":"?"}'
    most = total = 0
    for _ in wire.check_stepwise(bundle(*[unusual] * 5000), "status"):
        most, total, read = max(most, read), total + read, 0
    assert most <= 100
    assert total >= 5000


@pytest.mark.parametrize(
    "odd",
    [
        RECORD[:-1] + b',"error_code":{},' + b",".join(b'"%d":0' % number for number in range(20_000)) + b"}",
        RECORD[:-1] + b',"error_code":[' + b",".join([b'{"":0}'] * 20_000) + b"]}",
        b'{"reply_message_id":"1","message":[' + b",".join([b'{"":0}'] * 20_000) + b"]}",
        b'{"reply_message_id":"1","message":{"text":{},' + b",".join(b'"%d":0' % n for n in range(20_000)) + b"}}",
    ],
    ids=["keys", "a list in a field", "a list as a message", "keys of a message"],
)
def test_no_objects_are_made_of_what_is_not_read(odd: bytes) -> None:
    body = odd if b"reply" in odd else bundle(odd, records=0)
    wire.check(body, None)
    tracemalloc.start()
    try:
        wire.check(body, None)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Copies of the bytes; as objects, each member would take a hundred bytes more.
    assert peak_bytes < 6 * len(body)


def test_the_faults_of_thousands_of_records_are_found_in_steps() -> None:
    rubbish = b'{"data":[%s]}' % b",".join([RECORD, *[b"{}"] * 400_000])
    assert check_error(rubbish) == "more than 1000 records cannot be read: $.data"
    assert steps_of(wire.check_stepwise(rubbish, None)) > 5


def test_lone_surrogates_are_replaced_in_steps() -> None:
    text = rb"\ud83d" * 100_000
    assert steps_of(json_reader.replace_lone_surrogates(text)) > 4
    assert run_to_end(json_reader.replace_lone_surrogates(text)) == rb"\ufffd" * 100_000


@pytest.mark.parametrize("others", [rb"\n", rb"\\", rb"\u00fc", rb"\ud83d\ude00"])
def test_one_half_of_a_pair_among_other_escapes_is_replaced_in_steps(others: bytes) -> None:
    text = b"x" * 5_000_000 + others * 500_000 + rb"\ud83d" + b"x" * 100
    assert steps_of(json_reader.replace_lone_surrogates(text)) > 4
    assert run_to_end(json_reader.replace_lone_surrogates(text)) == text.replace(rb"\ud83dx", rb"\ufffdx")


def test_nesting_is_measured_in_steps_and_only_if_it_may_be_deep() -> None:
    wide = b"[%s]" % b",".join([b"[]"] * 100_000)
    assert steps_of(json_reader.check_nesting(wide, records=0)) > 4
    assert steps_of(json_reader.check_nesting(bundle(), records=RECORDS)) == 1


@pytest.mark.parametrize(
    ("array", "elements"), [(b"[1,2]", 2), (b'[1,[2,3],{"a":[4,5],"b":6},",,"]', 4), (rb'["\",[",{"x":"\\"},1]', 3)]
)
def test_elements_are_counted_without_making_them(array: bytes, elements: int) -> None:
    assert not run_to_end(json_reader.has_more_elements(array, elements))
    assert run_to_end(json_reader.has_more_elements(array, elements - 1))


class Instant:
    """A store that returns at once."""

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        assert len(batch) == 1
        return "redis"

    async def close(self) -> None:
        raise AssertionError


def test_others_are_served_while_the_web_process_checks_a_large_body() -> None:
    body = bundle(b"{}")

    async def scenario() -> tuple[int, int]:
        in_flight = InFlight(1 << 30)
        commit = GroupCommit(Instant())
        callbacks = CallbackReceiver(
            "status",
            addresses=AddressRules(allowed=ANY_NETWORK, trusted=()),
            tokens=Tokens([Token("fortytwo", "token")]),
            commit=commit,
            in_flight=in_flight,
            max_body_bytes=len(body),
            body_timeout_seconds=60,
        )
        served = 0

        async def serve() -> None:
            nonlocal served
            while True:
                served += 1
                await asyncio.sleep(0)

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [], "path_params": {"token": "token"}}
        committing, serving = asyncio.create_task(commit.run()), asyncio.create_task(serve())
        answer = await callbacks.handle(scope, receive)
        commit.close()
        await committing
        serving.cancel()
        assert in_flight.held_bytes == 0
        return answer.status, served

    status, served = asyncio.run(scenario())
    assert status == 200
    assert served > RECORDS // readable_records.RECORDS_PER_STEP
