"""Nothing disappears: what could not be read or delivered is listed, shown, replayed or dropped; the audit balances."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared import audit, batches
from tests import commit_pipeline
from tests.acceptance.processes import INTERRUPT, TOKEN, WAIT_SECONDS, Running, get, run
from tests.redis_server import RedisServer

HANDLERS = """
from pathlib import Path
from callbacks import Reject, ReportEvent, ReplyEvent, handler

@handler(ReportEvent, ReplyEvent)
def picky(event):
    if not Path("repaired").exists():
        raise Reject("not today")
    with open("picky.txt", "a") as file:
        file.write(event.id + "\\n")

@handler(ReportEvent, ReplyEvent)
def other(event):
    with open("other.txt", "a") as file:
        file.write(event.id + "\\n")
"""


def report(number: int) -> bytes:
    return b'{"data":[{"message_id":"%d","status":"SEEN","to":"35699000001"}]}' % number


@pytest.fixture
def service(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer
) -> Callable[[bytes, str], Any]:
    """Return a function that posts a body to the running service and waits until nothing moves."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    web = start("web")
    start("worker", "expand", CALLBACKS_HANDLERS="handlers")
    start("worker", "deliver", CALLBACKS_HANDLERS="handlers")
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")

    def post(body: bytes, kind: str = "status") -> Any:
        url = f"http://127.0.0.1:{port}/callbacks/{TOKEN}/{kind}"
        request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                reply = json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                reply = json.load(exc)
        at_rest(redis_server)
        return reply

    return post


def at_rest(server: RedisServer) -> audit.Audit:
    """Wait until nothing moves, and check that the audit balances."""
    deadline = time.monotonic() + WAIT_SECONDS
    with server.client(decode_responses=False) as client:
        while True:
            assert time.monotonic() < deadline
            sums = audit.run(client)
            if not sums.pending and not sums.moving:
                assert sums.balances
                return sums


def command(tmp_path: Path, server: RedisServer, *words: str) -> subprocess.CompletedProcess[str]:
    return run(*words, cwd=tmp_path, environment={"REDIS_URL": server.url})


def lines(ended: subprocess.CompletedProcess[str]) -> list[Any]:
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def written(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def test_a_dead_letter_is_delivered_again_to_its_own_handler_only(
    service: Callable[..., Any], tmp_path: Path, redis_server: RedisServer
) -> None:
    for number in (1, 2, 3):
        service(report(number))
    assert at_rest(redis_server).handlers[1].dead == 3

    rows = command(tmp_path, redis_server, "dead", "list").stdout.splitlines()
    assert rows == ["        3  picky", "`callbacks dead list NAME` shows them."]
    rows = command(tmp_path, redis_server, "dead", "list", "picky").stdout.splitlines()
    assert [line.split("  ")[2:] for line in rows] == [
        *(["picky", "1 attempt", number, "SEEN", "356*****001", "not today"] for number in ("3", "2", "1")),
        [],
    ]
    assert rows[3] == "3 in total"
    assert lines(command(tmp_path, redis_server, "dead", "list", "--json")) == [{"handler": "picky", "dead": 3}]
    letters = lines(command(tmp_path, redis_server, "dead", "list", "picky", "--json"))
    assert {(letter["attempts"], letter["error"]) for letter in letters} == {(1, "not today")}
    whole = [lines(command(tmp_path, redis_server, "dead", "show", "picky", x["id"], "--json"))[0] for x in letters]
    assert [letter["event"]["message_id"] for letter in whole] == ["3", "2", "1"]
    shown = command(tmp_path, redis_server, "dead", "show", "picky", letters[0]["id"])
    assert "not today" in shown.stdout
    assert '"message_id":"3"' in shown.stdout

    (tmp_path / "repaired").touch()
    assert command(tmp_path, redis_server, "dead", "replay", "picky", letters[0]["id"]).returncode == 0
    at_rest(redis_server)
    assert written(tmp_path / "picky.txt") == [letters[0]["id"]]
    assert command(tmp_path, redis_server, "dead", "replay", "picky", "--all").returncode == 0
    sums = at_rest(redis_server)

    assert sorted(written(tmp_path / "picky.txt")) == sorted(letter["id"] for letter in letters)
    assert len(written(tmp_path / "other.txt")) == 3
    assert [(h.handler, h.delivered, h.dead) for h in sums.handlers] == [("other", 3, 0), ("picky", 3, 0)]
    assert command(tmp_path, redis_server, "dead", "list").stdout == "No dead letters.\n"


def test_a_dropped_dead_letter_is_counted_as_dropped(
    service: Callable[..., Any], tmp_path: Path, redis_server: RedisServer
) -> None:
    service(report(1))
    (letter,) = lines(command(tmp_path, redis_server, "dead", "list", "picky", "--json"))

    refused = command(tmp_path, redis_server, "dead", "drop", "picky", letter["id"])
    assert refused.returncode == 1  # nobody said yes
    assert command(tmp_path, redis_server, "dead", "drop", "picky", letter["id"], "--yes").returncode == 0
    sums = at_rest(redis_server)
    gone = command(tmp_path, redis_server, "dead", "drop", "picky", letter["id"], "--yes")

    assert (sums.handlers[1].dead, sums.handlers[1].dropped) == (0, 1)
    assert gone.returncode == 1
    assert "no such failure" in gone.stderr
    assert at_rest(redis_server) == sums


def test_what_could_not_be_read_is_kept_as_received_and_dropped_only_on_request(
    service: Callable[..., Any], tmp_path: Path, redis_server: RedisServer
) -> None:
    assert service(b'{"data":[{"message_id":"1"}]}')["status"] == "quarantined"
    assert service(b'{"data":[')["status"] == 400
    bundle = b'{"api_job_id":"j","data":[{"message_id":"1","status":"SEEN"},{"message_id":[2],"status":"SEEN"}]}'
    assert service(bundle)["quarantined"] == 1
    sums = at_rest(redis_server)
    assert (sums.received, sums.unique, sums.quarantined) == (4, 1, 3)

    entries = lines(command(tmp_path, redis_server, "quarantine", "list", "--json"))
    assert [entry["error"].partition(": $")[2] for entry in entries] == [".data[1].message_id", "", ".data[0].status"]
    assert [entry["kind"] for entry in entries] == ["report"] * 3
    part = lines(
        command(tmp_path, redis_server, "quarantine", "show", entries[0]["id"], "--json", "--numbers", "full")
    )[0]
    assert json.loads(part["body"]) == {"api_job_id": "j", "data": [{"message_id": [2], "status": "SEEN"}]}

    stays = command(tmp_path, redis_server, "quarantine", "replay", "--all")
    assert (stays.returncode, stays.stdout) == (1, "replayed: 0; failed: 3\n")
    assert ".data[0].status" in stays.stderr
    replayed = command(tmp_path, redis_server, "quarantine", "replay", "--all", "--json")
    *errors, summary = map(json.loads, replayed.stdout.splitlines())
    assert {error["id"] for error in errors} == {entry["id"] for entry in entries}
    assert summary == {"replayed": 0, "failed": 3, "interrupted": False}
    assert at_rest(redis_server) == sums
    assert command(tmp_path, redis_server, "quarantine", "drop", "--all", "--yes").returncode == 0
    assert (at_rest(redis_server).quarantined, at_rest(redis_server).dropped) == (0, 3)
    assert lines(command(tmp_path, redis_server, "quarantine", "list", "--json")) == []


def test_what_can_be_read_now_is_replayed_the_normal_way(
    service: Callable[..., Any], tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "repaired").touch()
    with redis_server.client(decode_responses=False) as client:
        entry = quarantined(7)
        with client.pipeline() as pipe:
            commit_pipeline.add(pipe, [], [entry, entry])
            pipe.execute()
    assert at_rest(redis_server).records["unknown"].quarantined == 2

    assert command(tmp_path, redis_server, "quarantine", "replay", "--all").returncode == 0
    sums = at_rest(redis_server)

    assert sums.records["report"] == audit.RecordTotals(received=2, unique=1, duplicate=1, quarantined=0, dropped=0)
    assert sums.records["unknown"].received == 0
    assert len(written(tmp_path / "picky.txt")) == 1


def test_ids_or_all_must_be_given(tmp_path: Path, redis_server: RedisServer) -> None:
    for words in (["quarantine", "replay"], ["quarantine", "drop", "x", "--all"], ["dead", "replay", "log"]):
        ended = command(tmp_path, redis_server, *words)

        assert ended.returncode == 2
        assert "--all" in ended.stderr


def test_a_replay_of_all_can_be_interrupted_and_continued(
    start: Callable[..., Running], redis_server: RedisServer
) -> None:
    number = 20_000
    with redis_server.client(decode_responses=False) as client:
        for first in range(0, number, 1000):
            with client.pipeline() as pipe:
                commit_pipeline.add(pipe, [], [quarantined(each) for each in range(first, first + 1000)])
                pipe.execute()
        replaying = start("quarantine", "replay", "--all", "--json")
        # A hundred are read at once, and reported once all of them are done.
        replaying.until(lambda: client.llen("rq:queue:expand") > 100, "more than the first part", pause_seconds=0.0)
        client.client_pause(10_000, all=False)  # its writes wait, so that it cannot finish before it is interrupted
        replaying.send(INTERRUPT)
        client.client_unpause()

        assert replaying.wait() == 1
        summary = json.loads(replaying.output.splitlines()[0])
        assert summary["interrupted"]
        done, left = client.llen("rq:queue:expand"), client.zcard("cb:quarantine")
        assert 0 < summary["replayed"] <= done < number == done + left
        assert audit.run(client).balances
        again = start("quarantine", "replay", "--all")
        assert again.wait() == 0
        assert again.output == f"replayed: {left:,}\n"
        assert (client.llen("rq:queue:expand"), audit.run(client).balances) == (number, True)


def quarantined(number: int) -> batches.Quarantined:
    """Quarantine a callback that an earlier release could not read and this one can."""
    return batches.Quarantined(
        kind=None, source="acceptance", received_ms=batches.now_ms(), error="an older rule", body=report(number)
    )


def test_the_log_says_what_a_handler_raised_and_where_without_the_number(
    start: Callable[..., Running], tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "failing.py").write_text(
        "from callbacks import ReportEvent, handler\n\n@handler(ReportEvent, attempts=1)\ndef failing(event):\n"
        "    raise LookupError(f'no account for {event.recipient}')\n"
    )
    with redis_server.client() as client, client.pipeline() as pipe:
        commit_pipeline.add(pipe, [batches.Accepted("status", "acceptance", batches.now_ms(), 1, report(1).decode())])
        pipe.execute()
    start("worker", "expand", CALLBACKS_HANDLERS="failing")
    deliver = start("worker", "deliver", CALLBACKS_HANDLERS="failing")

    deliver.wait_for_output(
        'action=event_dead handler=failing events=1 cause="LookupError at failing.py:5" '
        'error="LookupError: no account for 356*****001"'
    )

    assert "35699000001" not in deliver.output
