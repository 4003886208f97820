"""`callbacks tail` as a process beside a running service: what it shows, of what, and how it ends."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from tests.acceptance.processes import CALLBACKS, INTERRUPT, TOKEN, Running, get, run
from tests.acceptance.terminals import in_terminal
from tests.redis_server import RedisServer, StartRedis, free_port
from tests.web_process import until

Start: TypeAlias = Callable[..., Running]

NUMBER = "35699000001"


def report(message_id: str, status: str = "DELIVRD", **more: Any) -> bytes:
    record = {"message_id": message_id, "status": status, "type": "SMS", "to": NUMBER, "from": "Fortytwo", **more}
    return json.dumps({"data": [record]}).encode()


@pytest.fixture
def send(start: Start, port: int) -> Callable[..., None]:
    """Start a service, and give a function that posts callbacks to it."""
    base = f"http://127.0.0.1:{port}"
    web = start("web")
    start("worker", "expand")
    web.until(lambda: get(f"{base}/readyz")[0] == 200, "readiness")

    def post_all(*bodies: bytes) -> None:
        for body in bodies:
            answer = httpx.post(f"{base}/callbacks/{TOKEN}", content=body, trust_env=False, timeout=30)
            assert answer.status_code == 200, answer.text

    return post_all


def lines(tail: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tail.output.splitlines() if line.startswith("{")]


def test_it_shows_each_new_event_on_a_line_with_the_number_masked_until_ctrl_c(
    start: Start, send: Callable[..., None]
) -> None:
    tail = start("tail")
    tail.wait_for_output("Listening to")
    send(report("m1"), report("m1"), report("m2", "UNDELIV", error_code=5))
    tail.wait_for_output("m2")

    lines = [line.split(maxsplit=1)[1] for line in tail.output.splitlines()[1:]]
    assert lines == [
        "DELIVRD   SMS       Fortytwo → 356*****001  message m1",
        "UNDELIV   SMS       Fortytwo → 356*****001  message m2  error 5",
    ]
    tail.send(INTERRUPT)
    assert tail.wait() == 0
    assert NUMBER not in tail.output


def test_filters_choose_and_count_ends_it(start: Start, send: Callable[..., None]) -> None:
    tails = {
        "m2": start("tail", "--json", "--count", "1", "--status", "undeliv"),
        "m3": start("tail", "--json", "--count", "1", "--channel", "viber"),
        "m4": start("tail", "--json", "--count", "1", "--to", "+356 99 000002", "--numbers", "full"),
        "r1": start("tail", "--json", "--count", "1", "--kind", "reply", "--source", "acceptance"),
    }
    for tail in tails.values():
        tail.wait_for_output("Listening to")
    reply = {"reply_message_id": "r1", "from": NUMBER, "to": "Fortytwo", "message": {"text": "yes"}, "channel": "SMS"}
    send(
        report("m1"),
        report("m2", "UNDELIV"),
        report("m3", type="VIBER"),
        report("m4", to="35699000002"),
        json.dumps(reply).encode(),
    )

    for wanted, tail in tails.items():
        assert tail.wait() == 0
        [event] = lines(tail)
        assert (event.get("message_id") or event.get("reply_message_id")) == wanted
        assert ("35699000002" in tail.output) == (wanted == "m4")
        assert NUMBER not in tail.output


def test_an_event_as_json_is_what_handlers_write(start: Start, send: Callable[..., None], tmp_path: Path) -> None:
    start("worker", "deliver", "--handler", "log")
    tail = start("tail", "--json", "--count", "1")
    tail.wait_for_output("Listening to")
    send(report("m1", notice=["\u2028", NUMBER]))
    assert tail.wait() == 0
    written = tmp_path / "events.jsonl"
    until(lambda: written.exists() and written.read_text().endswith("\n"))

    assert written.read_text().splitlines() == tail.output.splitlines()[1:]


def test_what_strangers_wrote_steers_no_terminal(
    redis_server: RedisServer, send: Callable[..., None], tmp_path: Path
) -> None:
    evil = "\x1b[2J\x9b31m\u202eabc\r\n\x07"
    for more in ((), ("--json",)):
        environment = {"REDIS_URL": redis_server.url}
        with in_terminal(
            "tail", "--count", "1", "--numbers", "full", *more, cwd=tmp_path, environment=environment, columns=2000
        ) as tail:
            tail.wait_for_output("Listening to")
            reply = {"reply_message_id": f"{evil}{more}", "from": evil, "message": {"text": evil}, "channel": evil}
            send(json.dumps(reply).encode())
            assert tail.wait() == 0

            assert "abc" in tail.output
            for steering in ("\x1b[2J", "\x9b", "\u202e", "\x07", "abc\r\n"):
                assert steering not in tail.output, repr(steering)
            if more:
                found = next(line for line in tail.output.splitlines() if line.startswith("{"))
                assert json.loads(found)["text"] == evil


def test_a_reader_that_went_away_ends_it_silently_even_if_nothing_comes(
    start: Start, redis_server: RedisServer, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [CALLBACKS, "tail", "--json"],
        cwd=tmp_path,
        env={**os.environ, "REDIS_URL": redis_server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stderr is not None
        assert tail.stdout is not None
        assert tail.stderr.readline().startswith("Listening to")
        tail.stdout.close()
        assert tail.wait(60) == 0
        assert tail.stderr.read() == ""


def test_it_says_when_redis_goes_away_and_when_it_is_back(start_redis: StartRedis, start: Start) -> None:
    server = start_redis({"requirepass": "s3cret-of-redis"})
    tail = start("tail", REDIS_URL=server.url)
    tail.wait_for_output("Listening to")
    server.kill()
    tail.wait_for_output(" is unavailable (ConnectionError)")
    server.start()
    tail.wait_for_output("Redis is available again: listening")
    assert tail.stop() == 0
    assert "s3cret" not in tail.output


def test_of_very_many_at_once_it_says_how_many_it_did_not_show(start: Start, send: Callable[..., None]) -> None:
    tail = start("tail")
    tail.wait_for_output("Listening to")
    records = [{"message_id": str(number), "status": "SEEN", "type": "SMS"} for number in range(1000)]
    send(json.dumps({"data": records}).encode())

    def is_complete() -> bool:
        # They are fanned out in several steps, each with a word of its own, and it may become another second meanwhile.
        shown = len(re.findall(r"message \d+$", tail.output, re.MULTILINE))
        not_shown = sum(int(number) for number in re.findall(r"… (\d+) more not shown", tail.output))
        return not_shown >= 500 and shown + not_shown == 1000

    tail.until(is_complete, "all of them, shown or counted")


def test_a_redis_that_does_not_let_it_in_is_named(start_redis: StartRedis, tmp_path: Path) -> None:
    server = start_redis({"requirepass": "right"})

    lines = run("tail", cwd=tmp_path, environment={"REDIS_URL": server.url.replace("right", "wrong-password")})

    assert lines.returncode == 1
    assert f"redis://127.0.0.1:{server.port}/0 cannot be used" in lines.stderr
    assert "wrong-password" not in lines.stderr


def test_a_redis_that_is_not_there_is_waited_for(start: Start) -> None:
    tail = start("tail", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    tail.wait_for_output("is unavailable")
    tail.send(INTERRUPT)
    assert tail.wait() == 0
