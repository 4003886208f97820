"""A service that has received a number and a text in every field, with all through which people see what it does.

Handlers raise them, retry and pause with them, in threads and tasks that nobody watches too. Each process runs with its
log, its spans go to a collector, notices to a receiver; streams of pages, `tail` and what `callbacks dev` prints are
open from before the first callback.
"""

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from callbacks.cli.activity_feed import ActivityFeed
from callbacks.cli.activity_lines import ActivityLines
from shared import audit, keys
from tests.acceptance import quoting_handlers
from tests.acceptance.processes import TOKEN, Running, descendants_of, get, run, started
from tests.acceptance.quoting_handlers import NUMBER, TEXT
from tests.collector import Collector, collecting
from tests.integration.forward import services
from tests.redis_server import RedisServer, free_port
from workers import activity

API_TOKEN: Final = "masked-read-secret"

HANDLERS: Final = f"""{quoting_handlers.HANDLERS}
import asyncio
import gc
import threading

def fail(event):
    raise ValueError(quote(event))

async def fail_later(event):
    raise ValueError(quote(event))

@handler(ReportEvent, ReplyEvent)
def threading_(event):
    threading.Thread(target=fail, args=(event,), name=quote(event)).start()

@handler(ReportEvent, ReplyEvent)
async def leaving(event):
    asyncio.create_task(fail_later(event), name=quote(event))
    await asyncio.sleep(0)
    gc.collect()
"""
# Two reports and three replies.
EVENTS: Final = 5
FAILING: Final = ("raising", "rejecting", "retrying", "pausing")
ENVIRONMENT: Final = {"CALLBACKS_HANDLERS": "handlers,sql,workers.handlers.optout.handler"}
_REPORT: Final = {
    "api_job_id": "job-1",
    "client_job_id": "autumn",
    "data": [
        {
            "message_id": "m-1",
            "client_message_id": f"order-{NUMBER}",
            "type": "SMS",
            "status": "UNDELIV",
            "to": f"+{NUMBER}",
            "from": NUMBER,
            "note": NUMBER,
        },
        {
            "message_id": "m-2",
            "client_message_id": f"00{NUMBER}",
            "type": f"SMS-{NUMBER}",
            "status": f"LOST-{NUMBER}",
            "error_code": int(NUMBER),
            "to": "00 43 664-173.09.54",
            "sms_from": NUMBER,
            "viber_from": f"tel:{NUMBER}",
            "timestamp": f"at {NUMBER}",
            "note": {"people": [{"number": "+43 (664) 173 09 54"}, {NUMBER: "yes"}]},
            "text": TEXT,
        },
    ],
}
_REPLY: Final = {
    "reply_message_id": "r-1",
    "orig_message_id": "m-1",
    "api_job_id": "job-1",
    "client_job_id": "autumn",
    "from": NUMBER,
    "to": "Fortytwo",
    "channel": "VIBER",
    "message": {"text": TEXT, "caption": TEXT},
    "note": TEXT,
}
_ODD_REPLY: Final = {
    **_REPLY,
    "reply_message_id": "r-3",
    "client_job_id": "winter",
    "channel": f"VIBER-{NUMBER}",
    "timestamp": NUMBER,
    "message": {"text": f"{TEXT} +43 664 173 09 54", "number": NUMBER},
}
_STOP: Final = {**_REPLY, "reply_message_id": "r-2", "message": {"text": "STOP"}}
_UNREADABLE: Final = {"data": [{"to": NUMBER, "status": ["UNDELIV"], "text": TEXT}]}
_NO_JSON: Final = f'{{"data": [{{"to": "{NUMBER}", "text": "{TEXT}"'
_BODIES: Final = (
    (json.dumps(_REPORT), "status"),
    *((json.dumps(reply), "reply") for reply in (_REPLY, _ODD_REPLY, _STOP)),
    (json.dumps(_UNREADABLE), "status"),
    (_NO_JSON, "status"),
)


class Service:
    """The service after it has received all of this; its processes run.

    `streams` is what has arrived of each stream of a page, `dev` the lines that `callbacks dev` prints.
    """

    def __init__(self, folder: Path, redis: RedisServer, collector: Collector, notices: services.Service) -> None:
        self.folder, self.redis, self.collector, self.notices = folder, redis, collector, notices
        self.ports = {"web": free_port(), "metrics": free_port(), "ops": free_port()}
        self.database = f"sqlite:///{folder}/callbacks.db"
        self.streams: dict[str, bytearray] = {}
        self.tails: list[Path] = []
        self.dev: list[str] = []
        self.answers: list[str] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of its processes, and of commands."""
        return {"REDIS_URL": self.redis.url, "DATABASE_URL": self.database, **ENVIRONMENT}

    def url(self, path: str, *, process: str = "ops") -> str:
        return f"http://127.0.0.1:{self.ports[process]}{path}"

    def command(self, *words: str, **environment: str) -> str:
        """Return all that a command prints."""
        ended = run(*words, cwd=self.folder, environment={**self.environment, **environment})
        assert ended.returncode in (0, 1), ended.stderr
        return ended.stdout + ended.stderr

    def page(self, path: str, *, process: str = "ops", **headers: str) -> str:
        """Return the answer to a GET, whatever its status, with its headers."""
        return _answer(urllib.request.Request(self.url(path, process=process), headers=headers))

    def ids(self, index: str) -> list[str]:
        """Return the ids of a list of failures."""
        with self.redis.client() as client:
            ids = client.zrange(index, 0, -1)
        assert isinstance(ids, list)
        return list(map(str, ids))

    def processes(self) -> Mapping[int, str]:
        """Return the command line of each process."""
        return descendants_of(self.folder)


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    """Run the service, let it receive all of it, and wait until it is settled."""
    (folder / "handlers.py").write_text(HANDLERS)
    (temporary := folder / "tmp").mkdir()
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        receiver = stack.enter_context(services.serving(services.says(204)))
        service = Service(folder, redis, stack.enter_context(collecting()), receiver)
        at = urllib.parse.urlsplit(receiver.url).netloc
        environment = {
            **service.environment,
            **service.collector.environment(),
            activity.VARIABLE: "1",
            "PORT": str(service.ports["web"]),
            "TMPDIR": str(temporary),
            "CALLBACKS_METRICS_PORT": str(service.ports["metrics"]),
            "CALLBACKS_OPS_PORT": str(service.ports["ops"]),
            "CALLBACKS_OPS_TOKENS": f"masked:read={API_TOKEN}",
            "CALLBACKS_TOKENS": f"acceptance={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
            "CALLBACKS_LOG_LEVEL": "DEBUG",
            "CALLBACKS_NOTIFY": f"json://{at}/json webhook+http://{at}/signed",
            "CALLBACKS_NOTIFY_SECRET": services.SECRET,
            "CALLBACKS_NOTIFY_AFTER_SECONDS": "0.1",
        }
        readers: list[threading.Thread] = []
        stack.callback(_join, readers)
        start = stack.enter_context(started(folder, environment))
        web = start("web")
        for words in (("worker", "expand"), ("worker", "deliver"), ("ops",)):
            start(*words)
        web.until(lambda: get(service.url("/readyz", process="web"))[0] == 200, "readiness")
        web.until(lambda: get(service.url("/readyz"))[0] == 200, "the pages")
        tails = [start("tail"), start("tail", "--json")]
        for tail in tails:
            tail.wait_for_output("Listening to")
        feed = stack.enter_context(ActivityFeed(redis.url))
        feed.read(wait_seconds=1)  # that it has subscribed
        readers += _open_streams(service)
        web.until(lambda: b"Listening" in service.streams["/live/events"], "the stream of events")
        for body, kind in _BODIES:
            headers = {"content-type": "application/json"}
            url = service.url(f"/callbacks/{TOKEN}/{kind}", process="web")
            service.answers.append(_answer(urllib.request.Request(url, body.encode(), headers)))
        _wait_until_settled(service, web)
        service.dev += _dev_lines(feed)
        service.tails += [tail.log for tail in tails]
        for tail in tails:
            tail.until(lambda tail=tail: tail.output.count("\n") > EVENTS, "the events")  # type: ignore[misc]
        yield service


def _join(readers: list[threading.Thread]) -> None:
    for reader in readers:
        reader.join()


def _answer(request: urllib.request.Request) -> str:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return f"{answer.headers}\n{answer.read().decode()}"
    except urllib.error.HTTPError as refused:
        with refused:
            return f"{refused.headers}\n{refused.read().decode()}"


def _open_streams(service: Service) -> Iterator[threading.Thread]:
    """Read the streams of *Now* and *Live* as their pages do, until the service ends; yield the threads that do."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(service.url("/live"), timeout=60) as page:
        csrf = page.read().decode().partition('name="csrf" value="')[2].partition('"')[0]
    form = urllib.parse.urlencode({"csrf": csrf}).encode()
    for path, body in (("/now/events", None), ("/live/events", form)):
        accepts = {"accept": "text/event-stream"}
        answer = opener.open(urllib.request.Request(service.url(path), body, accepts), timeout=60)
        service.streams[path] = received = bytearray()

        def read(answer: Any = answer, received: bytearray = received) -> None:
            while data := answer.read1(65536):
                received.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        yield reader


def _wait_until_settled(service: Service, web: Running) -> None:
    """Wait until each event is dead, scheduled, delivered, or waits for the paused handler, and all is shown."""
    with service.redis.client(decode_responses=False) as client:

        def is_settled() -> bool:
            by_name = {one.handler: one for one in audit.run(client).handlers}
            return (
                {"optout", "sql", "threading_", "leaving"} < set(by_name)
                and {by_name[name].delivered for name in ("sql", "threading_", "leaving")} == {EVENTS}
                and by_name["optout"].delivered == 1
                and client.zcard(keys.dead("raising")) == client.zcard(keys.dead("rejecting")) == EVENTS
                and client.exists(keys.paused("pausing")) == 1
                and client.zcard("rq:scheduled:deliver-retrying") == EVENTS
            )

        web.until(is_settled, "all of it is settled", pause_seconds=0.2)
    web.until(lambda: b"VIBER" in service.streams["/live/events"], "the events on Live")
    web.until(lambda: any(b"pausing" in request.body for request in service.notices.requests), "a notice")
    web.until(lambda: len(service.collector.named("deliver pausing")) > 0, "the spans")


def _dev_lines(feed: ActivityFeed) -> Iterator[str]:
    """Yield what `callbacks dev` prints of all that has happened."""
    lines = ActivityLines(hidden=(), masked=True, is_paused=lambda _: True)
    now = datetime.now(UTC)
    while items := feed.read(wait_seconds=0.2):
        for item in items:
            lines.add(item, now)
    yield from lines.pop(now + timedelta(minutes=1))
