"""`callbacks check --body`: what the service would make of a body, field by field, without Redis and settings."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main

GOOD = '{"message_id":"14466445287300014003","status":"DELIVRD","to":"35699000001","error_code":0}'
ODD = '{"message_id":"14466445287300014004","status":"delivrd","error_code":"21b","from":"Été"}'
FAULT = '{"message_id":"14466445287300014005","status":["SEEN"]}'


def bundle(*records: str) -> bytes:
    return f'{{"data":[{",".join(records)}]}}'.encode()


def check(body: bytes, *options: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["check", "--body", "-", *options], input=body, env=environment)


def test_a_body_that_is_read_whole_is_printed_field_by_field() -> None:
    ended = check(bundle(GOOD))

    assert ended.exit_code == 0
    assert ended.output.splitlines()[0] == "✓ 200 accepted: 1 event"
    lines = [line.split(maxsplit=1) for line in ended.output.splitlines()]
    assert ["recipient", "35699000001"] in lines
    assert ["is_final", "true"] in lines
    assert ["occurred_at", "-"] in lines


def test_a_file_is_read_like_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_bytes(bundle(GOOD))

    assert CliRunner().invoke(main, ["check", "--body", str(file)]).output == check(bundle(GOOD)).output


def test_a_field_that_cannot_be_read_is_named_with_what_is_in_raw() -> None:
    ended = check(bundle(GOOD, ODD))

    assert ended.exit_code == 1
    assert ended.output.splitlines()[0] == "✗ 200 accepted: 2 events (1 with fields that cannot be read)"
    assert '    error_code cannot be read; in raw: "21b"' in ended.output.splitlines()


def test_a_record_at_fault_is_named_by_its_path() -> None:
    ended = check(bundle(GOOD, FAULT))

    assert ended.exit_code == 1
    assert ended.output.splitlines()[0] == "✗ 200 accepted: 1 event, 1 record quarantined"
    assert "✗ record 2: quarantined: Expected str, got array: $.data[1].status" in ended.output.splitlines()


@pytest.mark.parametrize(
    ("body", "options", "lines"),
    [
        (b'{"data":[]}', (), ["✗ 200 quarantined", "    Expected array of length >= 1: $.data"]),
        (
            bundle(GOOD)[:-4],
            (),
            ["✗ 400 Request body is not JSON", "    The body is not JSON: Input data was truncated."],
        ),
        (b"a=b", ("--content-type", "application/x-www-form-urlencoded"), ["✗ 415 Unsupported request body"]),
        (b"{}", ("--content-encoding", "br"), ["✗ 415 Unsupported request body"]),
    ],
)
def test_what_is_not_accepted_is_explained(body: bytes, options: tuple[str, ...], lines: list[str]) -> None:
    ended = check(body, *options)

    assert ended.exit_code == 1
    assert ended.output.splitlines()[: len(lines)] == lines
    assert "    The service would keep a copy in its quarantine." in ended.output.splitlines()


def test_a_body_beyond_the_limit_is_413_as_the_service_is_set() -> None:
    ended = check(bundle(*[GOOD] * 20), CALLBACKS_MAX_BODY_BYTES="1024", REDIS_URL="not a URL")

    assert ended.exit_code == 1
    assert ended.output.splitlines() == [
        "✗ 413 Request body too large",
        "    A body may have at most 1024 bytes.",
        "    The service would keep a copy in its quarantine.",
    ]


def test_headers_and_url_are_given_by_options() -> None:
    latin_1 = gzip.compress(bundle(ODD.replace('"21b"', "21")).decode().encode("latin-1"))
    options = ("--content-type", "application/json; charset=latin1", "--content-encoding", "gzip", "--kind", "reply")

    ended = check(latin_1, *options)

    assert ended.exit_code == 0
    assert ["sender", "Été"] in [line.split() for line in ended.output.splitlines()]


def test_a_record_that_repeats_another_is_said_to_be_delivered_once() -> None:
    ended = check(bundle(GOOD, GOOD))

    assert ended.exit_code == 0
    assert "✓ record 2: report, the same event as record 1: delivered once" in ended.output.splitlines()


def test_json_has_the_answer_the_counts_and_the_records() -> None:
    ended = check(bundle(GOOD, ODD, FAULT), "--json")
    report = json.loads(ended.output)

    assert ended.exit_code == 1
    assert (report["status"], report["kept"], report["answer"]["quarantined"]) == (200, "accepted", 1)
    assert (report["events"], report["events_with_unreadable_fields"], report["records_quarantined"]) == (2, 1, 1)
    good, odd, fault = report["records"]
    assert (good["event"]["recipient"], good["unreadable"]) == ("35699000001", {})
    assert odd["unreadable"] == {"error_code": "21b"}
    assert (fault["record"], fault["error"]) == (3, "Expected str, got array: $.data[2].status")


def test_of_a_long_body_the_first_records_are_shown_and_the_first_at_fault() -> None:
    records = [GOOD.replace("4003", str(number)) for number in range(1000, 1300)]
    ended = check(bundle(*records, ODD, FAULT), "--limit", "2")

    names = [line.split(":")[0] for line in ended.output.splitlines() if " record " in f" {line}"]
    assert ended.output.splitlines()[-1] == "Not shown: 298 records. --limit shows more."
    assert [name for name in names if name[2:].startswith("record")] == [
        "✓ record 1",
        "✓ record 2",
        "✗ record 301",
        "✗ record 302",
    ]


def test_a_long_value_is_cut_and_nothing_controls_the_terminal() -> None:
    ended = check(b'{"reply_message_id":"1","message":{"text":"\\u001b[2J%b"}}' % (b"x" * 5000))

    assert ended.exit_code == 0
    assert "\x1b" not in ended.output
    assert max(map(len, ended.output.splitlines())) < 250


@pytest.mark.parametrize("options", [("--kind", "status"), ("--content-type", "x"), ("--limit", "1")])
def test_options_for_a_body_without_one_are_wrong_usage(options: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(main, ["check", *options])

    assert ended.exit_code == 2
    assert f"{options[0]} is for a body: give --body FILE too." in ended.output


@pytest.mark.parametrize("options", [("--body", "absent.json"), ("--body", "-", "--kind", "report")])
def test_a_file_that_is_absent_and_an_unknown_kind_are_wrong_usage(options: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["check", *options]).exit_code == 2
