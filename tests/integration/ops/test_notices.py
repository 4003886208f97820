"""Notices reach people and programs: over a real Redis, a real SMTP server and a real HTTP server on loopback."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from callbacks.ops.notices.notice import Notice
from callbacks.ops.notices.service import NoticeService
from callbacks.ops.notices.store import LEASE_SECONDS, Document, LeaseLost, NoticeStore
from callbacks.ops.notices.targets import read_targets
from shared import connections, keys, settings
from shared.background import Background
from shared.metrics import Metrics
from shared.metrics_push import MetricsPush
from tests.acceptance.processes import started
from tests.clock import Clock
from tests.integration.forward.services import SECRET, Service, in_turn, says, serving, writes
from tests.redis_server import RedisServer, StartRedis, free_port

AFTER = 30
RUNBOOK = "https://wiki.example/callbacks/operations"


class Mailbox:
    """What an SMTP server received: the subject and the text of each message."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 # aiosmtpd's name
        message = message_from_bytes(envelope.content, policy=policy.default)
        body = message.get_body(("plain", "html"))
        assert body is not None
        self.messages.append((str(message["subject"]), str(body.get_content())))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield box, controller.port
    controller.stop()


class Ops:
    """The notices of one `callbacks ops` process, stepped by the test with a clock of its own."""

    def __init__(self, url: str, clock: Clock, notify: str, **environment: str) -> None:
        given = {
            "REDIS_URL": url,
            "CALLBACKS_NOTIFY": notify,
            "CALLBACKS_NOTIFY_SECRET": SECRET,
            "CALLBACKS_NOTIFY_AFTER_SECONDS": str(AFTER),
            "CALLBACKS_RUNBOOK_URL": RUNBOOK,
        }
        loaded = settings.load({**given, **environment})
        self.clock = clock
        self.notices = NoticeService(loaded, read_targets(loaded), Background(), now_seconds=clock)

    def step(self, seconds: float = 0) -> None:
        """Let time pass, decide, and send all that is due."""
        self.clock.seconds += seconds
        self.notices.step()
        for delivery in self.notices.deliveries:
            for _ in range(20):
                delivery.step()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a decision each ten seconds."""
        for _ in range(int(seconds // 10)):
            self.step(10)


@contextmanager
def http(port: int = 0, *, failures: int = 0) -> Iterator[Service]:
    """Run an HTTP server whose first answers are errors."""
    with serving(in_turn(*[says(500)] * failures, says(204)), port=port) as service:
        yield service


def bodies(service: Service, path: str = "/") -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in service.requests if request.target.startswith(path)]


def address(service: Service) -> str:
    return service.url.removeprefix("http://").partition("/")[0]


def quarantine(server: RedisServer, *, clear: bool = False) -> None:
    with server.client() as client:
        if clear:
            client.delete(keys.QUARANTINE)
        else:
            client.zadd(keys.QUARANTINE, {"made-up": client.time()[0] * 1000})


@pytest.fixture
def alive(redis_server: RedisServer) -> Iterator[Callable[[], None]]:
    """Return a function that reports a web process and a worker, so that nothing is wrong."""
    web = MetricsPush(
        Metrics(), redis_server.url, state=lambda: {"state": "drained", "callbacks": 0, "bytes": 0, "limit_bytes": 9}
    )

    def push() -> None:
        web.push()
        with redis_server.client() as client:
            client.sadd("rq:workers:expand", "rq:worker:w")
            client.hset("rq:worker:w", "birth", "now")

    push()
    yield push
    web._client.close()


def test_a_condition_reaches_mail_json_and_signed_receivers_when_it_begins_and_when_it_is_over(
    redis_server: RedisServer, alive: Callable[[], None], mailbox: tuple[Mailbox, int]
) -> None:
    box, smtp_port = mailbox
    with http() as service:
        mail = (
            f"mailto://127.0.0.1:{smtp_port}?from=callbacks@example.com&to=oncall@example.com&mode=insecure&format=text"
        )
        at = address(service)
        ops = Ops(redis_server.url, Clock(), f"{mail}, json://{at}/json webhook+http://{at}/signed")
        quarantine(redis_server)
        ops.wait(60)
        quarantine(redis_server, clear=True)
        ops.wait(120)
        ops.wait(120)

    text = "1 quarantined in the last hour. Read, then replay or drop."
    assert [subject for subject, _ in box.messages] == [
        "callbacks: Callbacks quarantined",
        "callbacks: Resolved: Callbacks quarantined",
    ]
    assert text in box.messages[0][1]
    assert f"{RUNBOOK}#callbacksquarantinegrowing" in box.messages[0][1]
    assert "Resolved. It was: 1 quarantined" in box.messages[1][1]
    assert [body["title"] for body in bodies(service, "/json")] == [subject for subject, _ in box.messages]
    started, over = bodies(service, "/signed")
    assert started == {
        "type": "callbacks_quarantined",
        "state": "started",
        "subject": None,
        "started_at": "1970-01-01T00:16:50.000Z",
        "ended_at": None,
        "title": "Callbacks quarantined",
        "text": text,
        "runbook": f"{RUNBOOK}#callbacksquarantinegrowing",
    }
    assert (over["state"], over["started_at"], over["ended_at"]) == (
        "resolved",
        started["started_at"],
        "1970-01-01T00:17:50.000Z",
    )
    for request in service.requests:
        if request.target == "/signed":
            headers = {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
            assert Webhook(SECRET).verify(request.body, headers)


def test_of_several_processes_one_sends_and_a_restart_neither_repeats_nor_forgets(
    redis_server: RedisServer, alive: Callable[[], None]
) -> None:
    clock = Clock()
    with http() as service:
        notify = f"webhook+http://{address(service)}/"
        first, second = (Ops(redis_server.url, clock, notify) for _ in range(2))
        quarantine(redis_server)
        for _ in range(6):
            first.step(10)
            second.step()
        assert [body["state"] for body in bodies(service)] == ["started"]

        # A process that ends gives its lease to another; one that is killed leaves it for half a minute.
        first.notices._store.release()
        third = Ops(redis_server.url, clock, notify)
        third.wait(60)
        quarantine(redis_server, clear=True)
        third.wait(120)

    assert [body["state"] for body in bodies(service)] == ["started", "resolved"]


def test_a_target_that_fails_delays_no_other_and_gets_the_same_id_again(
    redis_server: RedisServer, alive: Callable[[], None]
) -> None:
    with http(failures=2) as failing, http() as working:
        nobody = f"json://127.0.0.1:{free_port()}/"
        notify = f"webhook+http://{address(failing)}/ webhook+http://{address(working)}/ {nobody}"
        ops = Ops(redis_server.url, Clock(), notify)
        quarantine(redis_server)
        ops.wait(40)
        assert len(working.requests) == 1
        # It was not reached: another process, after a restart, tries again.
        ops.notices._store.release()
        again = Ops(redis_server.url, ops.clock, notify)
        again.wait(60)

    assert len(working.requests) == 1
    assert len(failing.requests) == 3
    assert len({request.headers["webhook-id"] for request in failing.requests}) == 1


def test_while_redis_is_unavailable_it_says_so_and_once_it_is_back_that_it_is_over(start_redis: StartRedis) -> None:
    server, clock = start_redis(), Clock()
    with http() as service:
        ops = Ops(server.url, clock, f"webhook+http://{address(service)}/")
        ops.wait(40)
        begun = {body["type"] for body in bodies(service)}
        assert begun == {"no_web_process", "no_worker"}

        server.stop()
        ops.wait(60)
        found = bodies(service)[len(begun) :]
        assert [(body["type"], body["state"]) for body in found] == [("redis_unavailable", "started")]
        assert found[0]["text"].startswith("Redis is unavailable (ConnectionError).")

        server.start()
        ops.step(10)
        with connections.connect(server.url) as client:
            assert b"redis_unavailable" in (client.get(keys.NOTICES) or b"")
        ops.notices._store.release()
        Ops(server.url, clock, f"webhook+http://{address(service)}/").wait(120)

    assert [(body["type"], body["state"]) for body in bodies(service)[len(begun) :]] == [
        ("redis_unavailable", "started"),
        ("redis_unavailable", "resolved"),
    ]


def test_an_outage_of_a_redis_that_was_not_durable_is_announced_too(start_redis: StartRedis) -> None:
    server, clock = start_redis({"appendonly": "no"}), Clock()
    with http() as service:
        ops = Ops(server.url, clock, f"webhook+http://{address(service)}/")
        ops.wait(40)
        assert "durability_lost" in {body["type"] for body in bodies(service)}

        server.stop()
        ops.wait(60)

    assert (bodies(service)[-1]["type"], bodies(service)[-1]["state"]) == ("redis_unavailable", "started")


@pytest.mark.parametrize(
    ("key", "field"), [(keys.COUNTS, "report.unique"), (keys.COUNTS, b"\xff"), (keys.METRICS, "x")]
)
def test_a_damaged_value_is_a_notice_and_ends_no_other(
    redis_server: RedisServer, alive: Callable[[], None], key: str, field: str | bytes
) -> None:
    with http() as service, redis_server.client() as client:
        ops = Ops(redis_server.url, Clock(), f"webhook+http://{address(service)}/")
        quarantine(redis_server)
        ops.wait(40)
        client.hset(key, field, "abc")
        ops.wait(100)
        client.hdel(key, field)
        ops.wait(100)

    assert [(body["type"], body["state"]) for body in bodies(service)] == [
        ("callbacks_quarantined", "started"),
        ("status_unreadable", "started"),
        ("status_unreadable", "resolved"),
    ]
    assert f"A value of {key} in Redis is damaged" in bodies(service)[1]["text"]


def test_nothing_received_is_counted_from_the_last_callback_or_the_first_start(
    redis_server: RedisServer, alive: Callable[[], None]
) -> None:
    with redis_server.client() as client:
        assert abs(int(client.hget(keys.METRICS, "last_accepted_at") or 0) - int(client.time()[0])) < 60
        client.hset(keys.METRICS, "last_accepted_at", int(client.time()[0]) - 7300)
    with http() as service:
        ops = Ops(
            redis_server.url,
            Clock(),
            f"json://{address(service)}/",
            CALLBACKS_NOTIFY_SILENCE_SECONDS="7200",
        )
        ops.wait(40)
        assert [body["title"] for body in bodies(service)] == ["callbacks: Nothing received"]

        alive()
        ops.wait(120)
        assert len(service.requests) == 1, "a start of a web process is no callback"
        metrics = Metrics()
        metrics.add(("accepted", "report", "main"))
        MetricsPush(metrics, redis_server.url).close()
        ops.wait(120)

    assert [body["title"] for body in bodies(service)][1:] == ["callbacks: Resolved: Nothing received"]


def test_the_process_sends_also_if_there_is_no_redis_and_ends_as_ever(tmp_path: Path) -> None:
    with http() as service:
        environment = {
            "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
            "CALLBACKS_OPS_PORT": str(free_port()),
            "CALLBACKS_NOTIFY": f"json://me:hunter2-secret@{address(service)}/path",
            "CALLBACKS_NOTIFY_AFTER_SECONDS": "0.1",
        }
        with started(tmp_path, environment) as start:
            ops = start("ops")
            ops.until(lambda: service.requests, "a notice")
            ops.wait_for_output('action=notice_sent target="target 1 (json://…)" condition=redis_unavailable')
            assert ops.stop() == 0

    assert "hunter2-secret" not in ops.output
    assert "Redis is unavailable (ConnectionError)" in bodies(service)[0]["message"]


@pytest.mark.parametrize("scheme", ["json", "webhook+http"])
def test_an_answer_that_a_library_complains_about_puts_no_url_into_the_log(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = writes(b"HTTP/1.1 200 OK\r\nthis line is no header\r\nContent-Length: 0\r\n\r\n")
    test = Notice(condition="test", state="test", text="…", at_seconds=0, started_at_seconds=0)
    with serving(broken) as service, caplog.at_level("DEBUG"):
        notify = f"{scheme}://{address(service)}/services/T00SECRETTOKEN"
        (target,) = read_targets(settings.load({"CALLBACKS_NOTIFY": notify, "CALLBACKS_NOTIFY_SECRET": SECRET}))
        target.sender.send([test])

    assert len(service.requests) == 1
    assert "T00SECRETTOKEN" not in caplog.text


@pytest.mark.parametrize(
    ("unreadable", "read"),
    [
        ({"conditions": {"new ": {"condition": "of_another_release"}}}, {"redis_memory "}),
        ({"conditions": {"redis_memory ": {"condition": "redis_memory", "returns": "x"}}}, set()),
        ({"unsent": [{"target": "t", "notice": {"condition": "of_another_release"}}, 7]}, {"redis_memory "}),
    ],
)
def test_an_entry_that_this_release_cannot_read_drops_no_other(
    redis_server: RedisServer, unreadable: dict[str, Any], read: set[str]
) -> None:
    notice = {"condition": "dead_letters", "state": "started", "text": "…", "at_seconds": 1, "started_at_seconds": 1}
    good = {"target": "t", "notice": notice}
    document = {
        "conditions": {"redis_memory ": {"condition": "redis_memory"}, **unreadable.get("conditions", {})},
        "unsent": [*unreadable.get("unsent", []), good],
    }
    with connections.connect(redis_server.url) as client:
        client.set(keys.NOTICES, json.dumps(document))
        found = NoticeStore(client).read()
        assert set(found.conditions) == read
        assert [one.notice.condition for one in found.unsent] == ["dead_letters"]

        client.set(keys.NOTICES, json.dumps(document).encode().replace(b'"text": "\\u2026"', b'"text": "\xff"'))
        assert NoticeStore(client).read() == Document(found.conditions)


def test_one_process_has_the_lease_until_it_ends_or_no_longer_renews_it(redis_server: RedisServer) -> None:
    with connections.connect(redis_server.url) as client:
        first, second = NoticeStore(client), NoticeStore(client)
        assert [first.hold_lease(), second.hold_lease(), first.hold_lease()] == [True, False, True]
        assert 0 < int(client.ttl(keys.NOTICES_SENDER)) <= LEASE_SECONDS
        with pytest.raises(LeaseLost):
            second.update(lambda document: document)
        second.release()
        assert not second.hold_lease(), "a process releases only its own"

        first.release()
        assert second.hold_lease()
        with pytest.raises(LeaseLost):
            first.update(lambda document: document)
