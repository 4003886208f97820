"""A service whose traces are told to a collector: how its processes are started, and posting to it."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from shared import keys
from tests.acceptance.processes import TOKEN, Running
from tests.acceptance.traced_handlers import NAMES, RECIPIENT, TEXT
from tests.redis_server import RedisServer

Start: TypeAlias = Callable[..., Running]

POST: Final = "POST /callbacks/{token}/status"


def service(traced: Start) -> None:
    traced("web").wait_for_output("listening on")
    traced("worker", "expand")
    traced("worker", "deliver")


def report(number: int, status: str = "DELIVRD") -> dict[str, Any]:
    return {"message_id": f"message-{number}", "status": status, "type": "SMS", "to": RECIPIENT, "from": TEXT}


def post_reports(port: int, *records: dict[str, Any]) -> None:
    assert send(port, json.dumps({"data": records}).encode()) == 200


def send(port: int, body: bytes, *, token: str = TOKEN, path: str = "status", **headers: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/callbacks/{token}/{path}", body, {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def delivered(server: RedisServer) -> int:
    """Return how many reports each handler has by now: what that has that has least."""
    with server.client() as client:
        counts = client.hgetall(keys.COUNTS)
    return min(int(counts.get(keys.handler_counter(name, "report", "delivered"), 0)) for name in NAMES)
