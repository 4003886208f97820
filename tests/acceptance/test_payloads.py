"""What senders really send, through the real processes: each body of the conformance set becomes what its file says."""

import http.client
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from shared import audit, keys
from tests import payload_cases
from tests.acceptance.processes import Running, get
from tests.redis_server import RedisServer

CASES: Final = payload_cases.load()


def test_each_body_of_the_conformance_set_becomes_what_its_file_says(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer
) -> None:
    tokens = ",".join(f"{case.source}=token-of-{case.source}" for case in CASES)
    web = start("web", CALLBACKS_TOKENS=tokens)
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    workers = [start("worker", "expand"), start("worker", "deliver", CALLBACKS_LOG_NUMBERS="full")]

    differences = {case.name: _post(case, port) for case in CASES}
    with redis_server.client(decode_responses=False) as client:
        workers[1].until(lambda: audit.run(client).pending == 0, "an empty queue")
        sums = audit.run(client)
        entries = [
            client.hmget(keys.quarantined(entry.decode()), "source", "error")
            for entry in client.zrange(keys.QUARANTINE, 0, -1)
        ]

    events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        events[event["source"]].append(event)
    errors: defaultdict[str, list[str]] = defaultdict(list)
    for source, error in entries:
        errors[source.decode()].append(error.decode())
    for case in CASES:
        differences[case.name] += case.differences(events[case.source], errors[case.source])
    assert {name: found for name, found in differences.items() if found} == {}
    assert sums.balances
    output = "".join(process.output for process in (web, *workers))
    assert not re.findall(r"action=(?:job_failed|job_unreadable|fault|unexpected_error|callback_split).*", output)


def _post(case: payload_cases.Case, port: int) -> list[str]:
    differences = []
    for post in case.posts:
        # http.client adds no Content-Type of its own. A refusal may end the connection, so each has its own.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", f"/callbacks/token-of-{case.source}/{post.to}", post.body, post.headers)
        answer = connection.getresponse()
        differences += post.differences(answer.status, json.loads(answer.read()))
        connection.close()
    return differences
