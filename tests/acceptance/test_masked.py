"""Wherever people look, numbers and texts are masked; whole ones are shown on request, which the action log records.

A number and a text are planted in every field of a report, a reply and what cannot be read. Handlers raise them, retry
and pause with them. Then all that any process logged, exposed or printed is searched for them.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from shared import audit, keys
from tests.acceptance.processes import TOKEN, Running, get, run, started
from tests.redis_server import RedisServer, free_port

NUMBER: Final = "436641730954"
TEXT: Final = "Zwetschgenknödel bitte, morgen um acht"
# What of them would be found in any writing of them: plain, JSON with escapes, HTML, a URL.
TRACES: Final = (NUMBER, NUMBER[-7:], "Zwetschgenkn", "morgen um acht", "morgen+um", "morgen%20um")

HANDLERS = """
from callbacks import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler

def quote(event):
    return f"no customer {event.sender} / {event.recipient} / +{event.recipient}: {getattr(event, 'text', None)!r}"

@handler(ReportEvent, ReplyEvent, attempts=1)
def raising(event):
    raise ValueError(quote(event))

@handler(ReportEvent, ReplyEvent)
def rejecting(event):
    raise Reject(quote(event))

@handler(ReportEvent, ReplyEvent)
def retrying(event):
    raise Retry(after_seconds=3600, reason=quote(event))

@handler(ReplyEvent)
def pausing(event):
    raise Pause(3600, reason=quote(event))
"""
NAMES: Final = ("raising", "rejecting", "retrying", "pausing", "sql", "optout")
REPORT: Final = {
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
        }
    ],
}
REPLY: Final = {
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
UNREADABLE: Final = {"data": [{"to": NUMBER, "status": ["UNDELIV"], "text": TEXT}]}
NO_JSON: Final = f'{{"data": [{{"to": "{NUMBER}", "text": "{TEXT}"'


class Service:
    """The service after it has received all of this; its processes run."""

    def __init__(self, folder: Path, redis: RedisServer, ports: Mapping[str, int]) -> None:
        self.folder, self.redis, self.ports = folder, redis, ports

    def command(self, *words: str) -> str:
        """Return all that a command prints."""
        environment = {"REDIS_URL": self.redis.url, "DATABASE_URL": self.database, **HANDLERS_NAMED}
        ended = run(*words, cwd=self.folder, environment=environment)
        assert ended.returncode in (0, 1), ended.stderr
        return ended.stdout + ended.stderr

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}/callbacks.db"

    def page(self, path: str, *, process: str = "ops") -> str:
        """Return a page of a process as it is without JavaScript."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[process]}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def first(self, index: str) -> str:
        with self.redis.client() as client:
            ids = client.zrange(index, 0, 0)
        assert isinstance(ids, list)
        return str(ids[0])


HANDLERS_NAMED: Final = {"CALLBACKS_HANDLERS": "handlers,sql,workers.handlers.optout.handler"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("masked")
    (folder / "handlers.py").write_text(HANDLERS)
    ports = {"web": free_port(), "metrics": free_port(), "ops": free_port()}
    with RedisServer() as redis:
        found = Service(folder, redis, ports)
        environment = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": found.database,
            "PORT": str(ports["web"]),
            "CALLBACKS_METRICS_PORT": str(ports["metrics"]),
            "CALLBACKS_OPS_PORT": str(ports["ops"]),
            "CALLBACKS_TOKENS": f"acceptance={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
            "CALLBACKS_LOG_LEVEL": "DEBUG",
            **HANDLERS_NAMED,
        }
        with started(folder, environment) as start:
            web = start("web")
            for words in (("worker", "expand"), ("worker", "deliver"), ("ops",)):
                start(*words)
            web.until(lambda: get(f"http://127.0.0.1:{ports['web']}/readyz")[0] == 200, "readiness")
            tail = start("tail")
            tail.wait_for_output("Listening to")
            for body, kind in (
                (json.dumps(REPORT), "status"),
                (json.dumps(REPLY), "reply"),
                (json.dumps({**REPLY, "reply_message_id": "r-2", "message": {"text": "STOP"}}), "reply"),
                (json.dumps(UNREADABLE), "status"),
                (NO_JSON, "status"),
            ):
                post(f"http://127.0.0.1:{ports['web']}/callbacks/{TOKEN}/{kind}", body)
            wait_until_settled(redis, web)
            tail.wait_for_output("m-1")
            yield found


def post(url: str, body: str) -> None:
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"}, method="POST")
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as refused:
        assert_masked("answer", refused.read().decode())
        refused.close()


def wait_until_settled(redis: RedisServer, web: Running) -> None:
    """Wait until each event is dead, scheduled, delivered, or waits for the paused handler."""
    with redis.client(decode_responses=False) as client:

        def is_settled() -> bool:
            by_name = {one.handler: one for one in audit.run(client).handlers}
            return (
                set(by_name) == set(NAMES)
                and by_name["sql"].delivered == 3
                and by_name["optout"].delivered == 1
                and client.zcard(keys.dead("raising")) == client.zcard(keys.dead("rejecting")) == 3
                and client.exists(keys.paused("pausing")) == 1
                and client.zcard("rq:scheduled:deliver-retrying") == 3
            )

        web.until(is_settled, "all of it is settled", pause_seconds=0.2)


def assert_masked(where: str, text: str) -> None:
    for trace in TRACES:
        position = text.find(trace)
        assert position < 0, f"{where}: …{text[max(0, position - 200) : position + 80]}…"


COMMANDS: Final = (
    "dead list",
    "dead list raising",
    "dead list raising --json",
    "dead list rejecting --group",
    "dead export raising",
    "dead export rejecting --csv",
    "retries list",
    "retries list --json",
    "quarantine list",
    "quarantine list --json",
    "message m-1",
    "message m-1 --json",
    "message job-1 --json",
    "messages",
    "messages --json",
    "messages --csv",
    "jobs",
    "stats",
    "optouts list",
    "optouts list --json",
    "optouts export",
    "optouts export --csv",
    "handlers",
    "handlers --json",
    "audit",
    "top --once",
    "top --once --json",
)


def test_no_command_prints_them(service: Service) -> None:
    letters = [f"dead show {name} {service.first(keys.dead(name))}" for name in ("raising", "rejecting")]
    entry = f"quarantine show {service.first(keys.QUARANTINE)}"
    for words in (*COMMANDS, *letters, *(f"{letter} --json" for letter in letters), entry, f"{entry} --json"):
        printed = service.command(*words.split())
        assert printed, words
        assert_masked(words, printed)


def test_no_page_shows_them(service: Service) -> None:
    letter, entry = service.first(keys.dead("raising")), service.first(keys.QUARANTINE)
    for path in (
        "/", "/messages", "/messages?id=m-1", "/messages?id=r-1", "/jobs", "/retries", "/dead-letters",
        "/dead-letters/raising",
        "/dead-letters/raising/errors", "/dead-letters/rejecting/errors", "/dead-letters/raising/export.jsonl",
        "/dead-letters/raising/export.csv", f"/dead-letters/raising/{letter}", "/quarantine", f"/quarantine/{entry}",
        "/handlers/pausing", "/actions", "/metrics", "/audit", "/readyz",
    ):  # fmt: skip
        assert_masked(path, service.page(path))
    assert_masked("web's /metrics", service.page("/metrics", process="metrics"))


def test_no_process_logs_them(service: Service) -> None:
    logs = {path.name: path.read_text(errors="replace") for path in service.folder.glob("*.log")}

    assert len(logs) == 5
    assert any("event_dead" in text for text in logs.values())
    for name, text in logs.items():
        assert_masked(name, text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dead list raising", NUMBER),
        ("dead show raising", TEXT),
        ("dead export raising", TEXT),
        ("quarantine show", NUMBER),
        ("message m-1 --json", NUMBER),
        ("message m-1", TEXT),
        ("messages", NUMBER),
        ("retries list", NUMBER),
        ("optouts list", NUMBER),
    ],
)
def test_a_user_who_asks_sees_them_and_the_action_log_says_so(service: Service, words: str, expected: str) -> None:
    given = words.split()
    if "show" in given:
        given.append(service.first(keys.dead("raising") if given[0] == "dead" else keys.QUARANTINE))
    letters = [service.command(*given, "--numbers", "full")]
    if words == "dead show raising":
        with service.redis.client() as client:
            ids = client.zrange(keys.dead("raising"), 0, -1)
        assert isinstance(ids, list)
        letters = [service.command("dead", "show", "raising", str(one), "--numbers", "full") for one in ids]

    assert any(expected in text for text in letters)
    command = " ".join(given[:2]) if given[0] in ("dead", "quarantine", "retries", "optouts") else given[0]
    assert f">{command}<" in service.page("/actions")
