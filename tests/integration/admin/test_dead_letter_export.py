"""Dead letters are counted by error, and exported before they are dropped: masked, unless in full."""

import csv
import io
import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from callbacks import Reject, ReportEvent
from callbacks.cli.main import main
from callbacks.ops.pages import dead_letter_export
from tests.integration.harness import Harness, open_harness
from tests.integration.scripted_handlers import accept_and_expand, script, single
from tests.redis_server import RedisServer
from workers.admin import error_groups

NUMBER = "35699000001"


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    def act(event: ReportEvent) -> None:
        raise Reject("no such customer" if event.message_id == "other" else f"=order {event.message_id} of {NUMBER}")

    with open_harness(quick_redis.url, single) as made:
        accept_and_expand(made, "1001", "1002", "1003", "other")
        script.act = act
        made.deliver(single)
        yield made


def run(harness: Harness, *arguments: str) -> str:
    ended = CliRunner(env={"REDIS_URL": harness.url}).invoke(main, ("dead", *arguments))
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_errors_that_differ_in_numbers_only_are_one_group(harness: Harness) -> None:
    found = error_groups.read_groups(harness.connection, "single")

    assert [(group.error, group.dead) for group in found.groups] == [("=order # of #", 3), ("no such customer", 1)]
    assert [group.fragment for group in found.groups] == ["=order", "no such customer"]
    assert found.is_whole
    lines = [json.loads(line) for line in run(harness, "list", "single", "--group", "--json").splitlines()]
    assert [(line["error"], line["dead"]) for line in lines] == [("=order # of #", 3), ("no such customer", 1)]
    assert all(line["oldest_at"] <= line["newest_at"] for line in lines)
    assert "        3  " in run(harness, "list", "single", "--group")


@pytest.mark.parametrize(
    ("error", "general"),
    [
        ("HTTP 503 from crm", "HTTP # from crm"),
        ("no order 5fa8f6c9-8f5d-4b5e-9c5f-0f2d6a1c7b11", "no order #"),
        ("no order 0badc0de12345678", "no order #"),
        ("TimeoutError: took\n31.5 s", "TimeoutError: took #.# s"),
        ("defaced feedface", "defaced feedface"),
    ],
)
def test_what_differs_from_event_to_event_is_left_out_of_an_error(error: str, general: str) -> None:
    assert error_groups.general_error(error) == general


def test_an_export_is_masked(harness: Harness) -> None:
    lines = {line["message_id"]: line for line in map(json.loads, run(harness, "export", "single").splitlines())}

    assert lines.keys() == {"1001", "1002", "1003", "other"}
    one = lines["1001"]
    assert one == {
        "handler": "single", "id": one["id"], "died_at": one["died_at"], "attempts": 1, "kind": "report",
        "message_id": "1001", "status": "DELIVRD", "number": "356*****001", "error": "=order 1001 of 356*****001",
    }  # fmt: skip
    text = run(harness, "export", "single", "--csv")
    assert NUMBER not in text
    errors = {row["message_id"]: row["error"] for row in csv.DictReader(io.StringIO(text))}
    assert (errors["1001"], errors["other"]) == ("'=order 1001 of 356*****001", "no such customer")


def test_in_full_it_has_the_event_and_the_error_as_it_was(harness: Harness) -> None:
    lines = map(json.loads, run(harness, "export", "single", "--numbers", "full").splitlines())
    one = next(line for line in lines if line["message_id"] == "1001")
    assert one["error"] == f"=order 1001 of {NUMBER}"
    assert one["event"]["recipient"] == one["number"] == NUMBER
    rows = csv.DictReader(io.StringIO(run(harness, "export", "single", "--numbers", "full", "--csv")))
    assert {json.loads(row["event"])["message_id"] for row in rows} == {"1001", "1002", "1003", "other"}


def test_an_export_may_be_of_one_error(harness: Harness) -> None:
    assert len(run(harness, "export", "single", "--error", "NO SUCH").splitlines()) == 1


def test_an_export_may_be_of_a_time_or_of_ids(harness: Harness) -> None:
    (other,) = (json.loads(line)["id"] for line in run(harness, "export", "single", "--error", "no").splitlines())

    assert [json.loads(line)["id"] for line in run(harness, "export", "single", other, other).splitlines()] == [other]
    assert len(run(harness, "export", "single", "--since", "1h").splitlines()) == 4
    assert run(harness, "export", "single", "--until", "1h") == ""
    assert len(run(harness, "list", "single", "--since", "2020-01-31", "--error", "no", "--json").splitlines()) == 1
    assert run(harness, "list", "single", "--since", "1h", "--error", "no").endswith("1 match; 4 in total\n")


def test_a_download_is_of_bounded_parts(harness: Harness) -> None:
    """Many lines go out together, and never all of them: 200,000 dead letters take no more memory than 500."""
    lines = ["x" * 99 + "\n"] * 2000

    parts = list(dead_letter_export.encode_lines(lines))

    assert "".join(map(bytes.decode, parts)) == "".join(lines)
    assert max(map(len, parts)) < 70_000
    assert len(parts) < 9
