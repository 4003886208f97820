"""The whole service, with traffic of every kind behind it, and the operators' page before it."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from shared import audit, connections
from tests.acceptance.processes import Running, get, started
from tests.redis_server import RedisServer, free_port

TOKEN: Final = "tok-operators-page"
PASSWORD: Final = "correct horse battery"
# A right-to-left override, a zero-width space, a bell, markup and a script: all of it has to stay text.
HOSTILE: Final = "<script>alert(1)</script><b>\u202egnp.exe\u200b\x07\"'&"

# One handler that is well, one that rejects some and cannot do others.
_HANDLERS: Final = """
from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler

@handler(ReportEvent, ReplyEvent)
def ledger(event):
    pass

@handler(ReportEvent)
def crm(event):
    if event.status == "REJECTD":
        raise Reject("no such customer")
    if event.status == "UNDELIV":
        raise Retry(after_seconds=3600)
"""


class Service:
    """What runs: `ops_url` is where the operators' page is, `redis` the server, `start` starts more processes."""

    def __init__(self, redis: RedisServer, start: Callable[..., Running], folder: Path) -> None:
        self.redis = redis
        self.start = start
        self.folder = folder
        self.web_url = ""
        self.ops_url = ""
        self.database_url = ""

    def post(self, body: bytes, kind: str = "status") -> int:
        """Post a callback as the gateway does; give the status of the answer."""
        headers = {"content-type": "application/json"}
        url = f"{self.web_url}/callbacks/{TOKEN}/{kind}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code

    def report(self, number: int, status: str = "DELIVRD", **more: object) -> None:
        """Post one report that is kept."""
        self.reports([number], status, **more)

    def reports(self, numbers: Iterable[int], status: str = "DELIVRD", **more: object) -> None:
        """Post several reports in one callback."""
        records = [
            {"message_id": f"m-{number}", "status": status, "type": "SMS", "to": f"3569900{number:04}", **more}
            for number in numbers
        ]
        assert self.post(orjson.dumps({"data": records})) == 200

    def reply(self, number: int, text: str) -> None:
        """Post one reply that is kept."""
        reply = {
            "reply_message_id": f"r-{number}",
            "channel": "VIBER",
            "from": "35699000001",
            "to": "12345",
            "message": {"text": text},
        }
        assert self.post(orjson.dumps(reply), "reply") == 200

    def start_ops(self, **environment: str) -> Running:
        """Start `callbacks ops`, where `ops_url` says it is."""
        port = free_port()
        self.ops_url = f"http://127.0.0.1:{port}"
        ops = self.start("ops", **{"CALLBACKS_OPS_PORT": str(port), **environment})
        ops.until(lambda: get(f"{self.ops_url}/livez")[0] == 200, "the operators' page")
        return ops

    def rest(self) -> None:
        """Wait until all that came is where it stays; one event at the handler crm is to be tried later."""
        with connections.connect(self.redis.url) as client:
            self.ops.until(lambda: (sums := audit.run(client)).waiting == 0 and sums.pending <= self.later, "rest")

    ops: Running
    later = 0


@contextmanager
def served(folder: Path, redis: RedisServer, *, workers: bool = True, **environment: str) -> Iterator[Service]:
    """Start all of it in `folder`, with `environment` for each process."""
    port = free_port()
    (folder / "shop_handlers.py").write_text(_HANDLERS)
    surroundings: Mapping[str, str] = {
        "REDIS_URL": redis.url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"main={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_HANDLERS": "shop_handlers",
        **environment,
    }
    with started(folder, surroundings) as start:
        service = Service(redis, start, folder)
        service.web_url = f"http://127.0.0.1:{port}"
        web = start("web")
        if workers:
            start("worker", "expand")
            start("worker", "deliver")
        service.ops = service.start_ops()
        web.until(lambda: get(f"{service.web_url}/readyz")[0] == 200, "readiness")
        yield service


def send_some_of_each(service: Service) -> None:
    """Post reports that arrive, that crm rejects, and one that it cannot do; replies; hostility; no callback."""
    for number in range(20):
        service.report(number)
    for number in range(20, 23):
        service.report(number, "REJECTD", error_code=number)
    service.report(23, "UNDELIV")
    service.report(24, client_message_id=HOSTILE)
    service.report(25, "REJECTD", **{"from": HOSTILE})
    service.reply(1, HOSTILE)
    service.reply(2, "Yes, please call me back. \u0634\u0643\u0631\u0627")
    assert service.post(b'{"data": "<img src=x onerror=alert(2)>"}') == 200
    assert service.post(b"{no JSON") == 400
    service.later = 1
    service.rest()
