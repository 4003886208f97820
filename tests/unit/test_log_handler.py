"""The handler `log`: one line of JSON for each event, whole, in the right place, and without whole phone numbers."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks import Event
from shared import callback_events, events, json_reader, wire
from workers import registry
from workers.deliver.call.caller import Caller
from workers.handlers.log import LineWriter
from workers.handlers.mask import mask_numbers
from workers.handlers.number_mask import mask_number
from workers.runtime.outcome import DONE

NUMBER = "35679000123"
REPORT: dict[str, Any] = {
    "type": "SMS", "message_id": "14466445287300014003", "status": "DELIVRD", "timestamp": 1443165174,
    "to": NUMBER, "from": "Fortytwo", "error_code": 0,
}  # fmt: skip
REPLY: dict[str, Any] = {
    "reply_message_id": "14466445287300014999", "req_uuid": "0b8ae9b2", "channel": "VIBER", "timestamp": 1443165174,
    "from": NUMBER, "to": "Fortytwo", "message": {"text": "Call me on 35679000123\u2028👋🏽"},
}  # fmt: skip


def read(body: dict[str, Any]) -> list[Event]:
    return list(
        callback_events.from_callback(
            wire.read(json.dumps(body).encode(), None), source="main", received_at=datetime(2015, 9, 25, tzinfo=UTC)
        )
    )


def report(**keys: Any) -> Event:
    return read({"data": [{**REPORT, **keys}]})[0]


def reply(**keys: Any) -> Event:
    return read({**REPLY, **keys})[0]


def written(event: Event) -> dict[str, Any]:
    """Return what a line of the log says of `event`, with its numbers masked."""
    fields = json.loads(mask_numbers(event).to_json())
    assert isinstance(fields, dict)
    return fields


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, which reads its own environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CALLBACKS_")}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | environ, check=False, capture_output=True, text=True
    )


# --- where the lines go


def test_each_event_is_a_line_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    LineWriter(None, masked=False).write([report(), reply()])
    out = capfdbinary.readouterr().out.decode()
    assert out == report().to_json() + "\n" + reply().to_json() + "\n"
    assert len(out.splitlines()) == 2


def test_the_handler_is_found_and_called_as_anybodys_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (log,) = registry.load(["log"])
    assert (log.name, sorted(log.kinds), log.batch, log.is_async) == ("log", ["reply", "report"], True, False)
    with Caller(log) as calls:
        assert list(calls.call([report(), reply()])) == [(0, DONE), (1, DONE)]
    assert len(capfdbinary.readouterr().out.splitlines()) == 2


def test_lines_go_to_the_end_of_the_file_whose_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "events.jsonl"
    lines = LineWriter(path, masked=False)
    lines.write([report()])
    lines.write([reply(), report()])
    assert path.read_text(encoding="utf-8") == "".join(
        f"{event.to_json()}\n" for event in (report(), reply(), report())
    )
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_was_rotated_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = LineWriter(path, masked=False)
    lines.write([report()])
    path.rename(tmp_path / "events.jsonl.1")
    lines.write([reply()])
    assert (tmp_path / "events.jsonl.1").read_text(encoding="utf-8") == report().to_json() + "\n"
    assert path.read_text(encoding="utf-8") == reply().to_json() + "\n"


def test_a_line_that_somebody_left_half_written_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind":"rep', encoding="utf-8")
    LineWriter(path, masked=False).write([report()])
    assert path.read_text(encoding="utf-8").splitlines() == ['{"kind":"rep', report().to_json()]


def test_a_pipe_is_written_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        LineWriter(path, masked=False).write([report()])
        assert os.read(reader, 1 << 16).decode() == report().to_json() + "\n"
    finally:
        os.close(reader)


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = """if True:
        import sys, pathlib
        from shared import callback_events, events
        from workers.handlers.log import LineWriter
        for _ in range(50):
            LineWriter(pathlib.Path(sys.argv[1]), masked=True).write(events.decode(sys.argv[2]) * 5)
    """
    encoded = {name: f"[{events.encode(report(remark=name * 2000)).decode()}]" for name in "abcd"}
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), encoded[name]]) for name in encoded]
    assert [writer.wait() for writer in writers] == [0] * 4

    raws = [json.loads(line)["raw"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(raw["remark"] for raw in raws) == [name * 2000 for name in "abcd" for _ in range(250)]


def test_a_file_that_cannot_be_written_fails_the_batch(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        LineWriter(tmp_path / "file" / "events.jsonl", masked=True).write([report()])


# --- what its variables say


def test_without_variables_it_masks_and_writes_to_standard_output() -> None:
    for environ in ({}, {"CALLBACKS_LOG_FILE": " ", "CALLBACKS_LOG_NUMBERS": ""}, {"CALLBACKS_LOG_NUMBERS": "masked"}):
        lines = LineWriter.from_environ(environ)
        assert (lines.path, lines.masked) == (None, True)


def test_its_variables_are_read(tmp_path: Path) -> None:
    lines = LineWriter.from_environ({"CALLBACKS_LOG_FILE": str(tmp_path / "x"), "CALLBACKS_LOG_NUMBERS": "full"})
    assert (lines.path, lines.masked) == (tmp_path / "x", False)


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"CALLBACKS_LOG_NUMBERS": "ful"}, "CALLBACKS_LOG_NUMBERS: must be masked or full, not 'ful'"),
        ({"CALLBACKS_LOG_FILE": "/"}, "CALLBACKS_LOG_FILE: '/' is a folder, not a file"),
        ({"CALLBACKS_LOG_FILE": "x" * 300}, f"CALLBACKS_LOG_FILE: '{'x' * 300}' cannot be used: File name too long"),
    ],
)
def test_a_wrong_variable_stops_the_start(environ: dict[str, str], shown: str) -> None:
    ended = run("from workers import registry; registry.load(['log'])", **environ)
    assert ended.returncode == 1
    assert f"HandlerError: CALLBACKS_HANDLERS: 'log': its settings: {shown}" in ended.stderr


def test_emoji_reach_an_output_that_is_not_utf_8() -> None:
    code = """if True:
        import os
        from shared import callback_events, events
        from workers.handlers.log import LineWriter
        LineWriter(None, masked=True).write(events.decode(os.environ["EVENTS"]))
    """
    encoded = events.encode(reply()).decode()
    ended = run(code, PYTHONIOENCODING="latin-1", PYTHONUTF8="0", EVENTS=f"[{encoded}]")
    assert ended.returncode == 0
    assert "👋🏽" in ended.stdout


# --- what is masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("3567912345123", "35679*****123"),
        ("356790001234567", "35679*******567"),
        ("35679000123", "356*****123"),
        ("12345678", "*****678"),
        ("1234567", "*****67"),
        ("+356 7900 0123", "+356 **** *123"),
        ("٣٥٦٧٩٠٠٠١٢٣", "٣٥٦*****١٢٣"),
        ("tel:35679000123", "tel:356*****123"),
        ("123456", "123456"),
        ("Fortytwo", "Fortytwo"),
        ("Room 101", "Room 101"),
        ("", ""),
    ],
)
def test_a_number_keeps_its_ends_and_a_name_stays(value: str, shown: str) -> None:
    assert mask_number(value) == shown


def test_fields_and_copies_in_raw_are_masked_and_nothing_else() -> None:
    shown = written(report())
    assert shown["recipient"] == shown["raw"]["to"] == "356*****123"
    assert shown["sender"] == shown["raw"]["from"] == "Fortytwo"
    plain = json.loads(report().to_json())
    for fields in (plain, shown):
        del fields["recipient"], fields["raw"]["to"]
    assert shown == plain
    assert list(json.loads(mask_numbers(report()).to_json())) == list(json.loads(report().to_json()))


def test_the_event_itself_keeps_its_numbers() -> None:
    event = report(nested={"to": [NUMBER]})
    mask_numbers(event)
    assert event == report(nested={"to": [NUMBER]})


@pytest.mark.parametrize(
    "keys",
    [
        {"to": int(NUMBER)},
        {"from": "", "sms_from": NUMBER, "viber_from": "447700900123"},
        {"destination": {"to": [NUMBER, {"deep": 447700900123}]}},
        {"msisdn": NUMBER},
        {"msisdn": int(NUMBER)},
        {"all": [[NUMBER]]},
        {"client_message_id": NUMBER},
    ],
)
def test_copies_are_masked_wherever_they_stand(keys: dict[str, Any]) -> None:
    line = mask_numbers(report(**keys)).to_json()
    assert NUMBER not in line
    assert "447700900123" not in line


def test_a_replys_text_stays_as_it_is_what_the_log_is_for() -> None:
    shown = written(reply())
    assert shown["text"] == shown["raw"]["message"]["text"] == REPLY["message"]["text"]
    assert shown["sender"] == shown["raw"]["from"] == "356*****123"
    assert written(reply(message={"text": NUMBER}))["text"] == NUMBER


def test_an_event_without_numbers_is_written_too() -> None:
    assert written(report(to=None, **{"from": None}))["recipient"] is None


def test_nesting_as_deep_as_is_read_is_masked() -> None:
    deep: Any = NUMBER
    for _ in range(json_reader.MAX_DEPTH - 1):
        deep = [deep]
    assert NUMBER not in mask_numbers(report(deep=deep)).to_json()


@pytest.mark.parametrize("kept", ['{"to":"%s","x":1e400}', "[" * 101 + '{"to":"%s"}' + "]" * 101])
def test_what_nobody_can_hold_is_masked_in_its_text(kept: str) -> None:
    body = '{"data":[{"message_id":"1","status":"SEEN","x":%s}]}' % (kept % NUMBER)
    (event,) = callback_events.from_callback(wire.read(body.encode(), None), source="s", received_at=datetime.now(UTC))
    assert NUMBER in event.raw["x"]
    assert NUMBER not in mask_numbers(event).to_json()


numbers = st.from_regex(re.compile(r"[1-9][0-9]{6,14}"), fullmatch=True)


@given(numbers, numbers, st.sampled_from(["to", "from", "sms_from", "viber_from"]))
def test_no_whole_number_reaches_a_line(sender: str, recipient: str, key: str) -> None:
    event = report(**{"to": recipient, "from": sender, "x": {key: [int(sender), recipient]}})
    shown = set(re.findall(r"[0-9*]+", mask_numbers(event).to_json()))
    known = {"14466445287300014003", "1443165174"}
    assert not {sender, recipient} & (shown - known)


@given(numbers)
def test_at_least_five_digits_are_hidden_and_two_shown(number: str) -> None:
    shown = mask_number(number)
    assert len(shown) == len(number)
    assert shown.count("*") >= 5
    assert number.endswith(shown[-2:])
