"""`/metrics` of the operators' page over a real Redis: after traffic, and while Redis is unavailable."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler
from callbacks.ops.app import create_app
from callbacks.ops.prometheus import AUDIT_EVERY_SECONDS, ServiceCollector
from callbacks.ops.status import service_status, snapshot_reader
from callbacks.ops.status.alerts import find_alerts
from shared import connections, keys, refusals, settings
from shared.batches import Quarantined
from shared.metrics import OTHER, Metrics
from shared.metrics_push import MetricsPush
from shared.schema import OPTIONAL_KEYS
from shared.setting_values import RUNBOOK
from tests.integration.harness import RECEIVED_MS, Harness, record, status
from tests.integration.http.test_http_refusals import exchange
from tests.redis_server import RedisServer, StartRedis
from tests.web_process import TOKEN, StartWeb, payload, report, until
from workers.runtime import pause

Series = Mapping[tuple[str, ...], float]


@handler(ReportEvent, ReplyEvent, attempts=2)
def choosy(event: ReportEvent | ReplyEvent) -> None:
    """Take what is delivered, reject what is rejected, and try the rest again."""
    status = getattr(event, "status", None)
    if status == "REJECTD":
        raise Reject("never")
    if status == "UNDELIV":
        raise Retry(after_seconds=3600)


def scrape(url: str) -> Mapping[str, Series]:
    """Read /metrics through the application: each sample's value by its name and its labels' values."""

    async def get() -> httpx.Response:
        app = create_app(settings.load({"REDIS_URL": url}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://ops") as client:
            return await client.get("/metrics")

    return read(asyncio.run(get()))


def read(answer: httpx.Response) -> Mapping[str, Series]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def body(number: int, status: str) -> bytes:
    return b'{"data":[{"message_id":"%d","status":"%s","type":"SMS","to":"35699000001"}]}' % (number, status.encode())


def test_all_that_came_in_stands_there_with_what_became_of_it(redis_server: RedisServer, start_web: StartWeb) -> None:
    web = start_web(redis_server)
    for number, reached in enumerate(("DELIVRD", "DELIVRD", "REJECTD", "UNDELIV")):
        assert web.post(body(number, reached)).status_code == 200
    assert web.post(body(0, "DELIVRD")).status_code == 200
    assert web.post(payload("reply"), "reply").status_code == 200
    assert web.post(b'{"data":7}').status_code == 200
    assert web.post(b"no JSON").status_code == 400
    web.stop()
    waiting = scrape(redis_server.url)
    assert waiting["callbacks_queue_jobs"]["expand", "waiting"] == 6
    assert waiting["callbacks_expand_waiting_records"][()] == 6
    assert waiting["callbacks_queue_oldest_job_age_seconds"]["expand",] > 0
    assert waiting["callbacks_audit_difference"][()] == 0
    harness = Harness(redis_server.url, choosy)
    harness.expand()
    harness.deliver(choosy)
    found = scrape(redis_server.url)
    assert found["callbacks_accepted_total"] == {
        ("report", "gateway"): 7,
        ("reply", "gateway"): 1,
    }
    responses = found["callbacks_responses_total"]
    assert {code: number for code, number in responses.items() if number} == {("200",): 7, ("400",): 1}
    assert found["callbacks_records_received_total"] == {("report",): 7, ("reply",): 1, ("unknown",): 0}
    assert found["callbacks_events_total"] == {("report",): 4, ("reply",): 1, ("unknown",): 0}
    assert found["callbacks_duplicate_records_total"]["report",] == 1
    assert found["callbacks_quarantine_failures"][()] == found["callbacks_quarantined_records"][()] == 2
    assert found["callbacks_deliveries_total"]["choosy", "delivered"] == 3
    assert found["callbacks_dead_letters"] == {("choosy",): 1}
    assert found["callbacks_handler_waiting_events"] == {("choosy",): 1}
    assert found["callbacks_queue_jobs"]["deliver-choosy", "scheduled"] == 1
    assert found["callbacks_workers"] == {("expand",): 0, ("deliver-choosy",): 0}
    assert found["callbacks_acknowledge_duration_seconds_count"][()] == 7
    assert found["callbacks_commit_duration_seconds_count"][()] == found["callbacks_batch_size_sum"][()] == 8
    assert found["callbacks_audit_difference"][()] == 0
    assert found["callbacks_redis_durable"][()] == 1


def test_refusals_are_told_apart_by_reason_and_by_token_and_the_page_says_so(
    redis_server: RedisServer, start_web: StartWeb
) -> None:
    web = start_web(redis_server, CALLBACKS_ALLOWED_IPS="192.0.2.1", CALLBACKS_TRUSTED_PROXIES="127.0.0.1")
    allowed = {"x-forwarded-for": "192.0.2.1"}
    for _ in range(3):
        assert web.post(report(1), **{"x-forwarded-for": "198.51.100.9"}).status_code == 403
    assert web.post(b"status=SEEN", **allowed, **{"content-type": "multipart/mixed"}).status_code == 415
    with web.client() as client:
        assert client.post("/callbacks/wrong/status", content=b"{}").status_code == 403
        assert client.post("/callbacks/wrong/status", content=b"{}", headers=allowed).status_code == 404
    assert exchange(web, b"NOT HTTP\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    with connections.connect(redis_server.url) as client:
        until(lambda: len(snapshot_reader.read_snapshot(client, "fsync").refused_addresses) == 4)
        status = service_status.read_status(client, settings.load({"REDIS_URL": redis_server.url}))

    last = {(one.reason, one.sender): one.address for one in status.refused if (one.address_seconds_ago or 600) < 600}
    assert last == {
        ("address-not-allowed", "known"): "198.51.100.9",
        ("address-not-allowed", "unknown"): "127.0.0.1",
        ("not-found", "unknown"): "192.0.2.1",
        ("unsupported-media", "known"): "192.0.2.1",
    }
    assert {labels: n for labels, n in scrape(redis_server.url)["callbacks_refused_total"].items() if n} == {
        ("403", "address-not-allowed", "known"): 3,
        ("403", "address-not-allowed", "unknown"): 1,
        ("404", "not-found", "unknown"): 1,
        ("400", "not-http", "unknown"): 1,
        ("415", "unsupported-media", "known"): 1,
    }
    alerts = [alert.text for alert in find_alerts(status) if "refused" in alert.text]
    assert alerts == [
        "3 callbacks were refused with 403 in the last 10 minutes, the last from 198.51.100.9: Address not allowed. "
        "If the address is the gateway's or your proxy's, add it to CALLBACKS_ALLOWED_IPS.",
        "1 callback was refused with 415 in the last 10 minutes, the last from 192.0.2.1: Unsupported request body. "
        "Read the copies in the quarantine.",
    ]


def test_no_label_holds_a_token_a_number_or_a_text(redis_server: RedisServer, start_web: StartWeb) -> None:
    web = start_web(redis_server)
    web.post(report(1))
    web.post(payload("reply"), "reply")
    web.post(b'{"data":[{"status":"35699000001","type":"35699000001"}]}')
    web.stop()
    labels = {word for series in scrape(redis_server.url).values() for words in series for word in words}
    numbers = {word for word in labels if not word.replace(".", "").replace("+Inf", "").isdigit()}
    assert TOKEN not in labels
    assert not [word for word in numbers if "35699" in word]
    assert numbers <= {
        *("report", "reply", "unknown", "gateway", "expand", "waiting", "running", "scheduled", "+Inf"),
        *("none", "drained", "filling", "full", "failing"),
        *("quarantine", "age", "room", RUNBOOK),
        *(*refusals.REASONS, *refusals.SENDERS, *OPTIONAL_KEYS, OTHER),
        *(
            "redis",
            "version",
            "role",
            "appendonly",
            "aof_rewritten",
            "appendfsync",
            "aof_last_write",
            "maxmemory_policy",
            "memory",
        ),
    }


def test_the_state_of_web_processes_is_summed_over_those_that_live(redis_server: RedisServer) -> None:
    spools = [{"state": state, "callbacks": 5, "bytes": 100, "limit_bytes": 1000} for state in ("filling", "full")]
    pushes = [MetricsPush(Metrics(), redis_server.url, state=states.copy) for states in spools]
    for metrics_push in pushes:
        metrics_push.push()
    found = scrape(redis_server.url)
    assert found["callbacks_web_processes"][()] == 2
    assert found["callbacks_spool_callbacks"][()] == 10
    assert found["callbacks_spool_bytes"][()] == 200
    assert found["callbacks_spool_limit_bytes"][()] == 1000
    assert found["callbacks_spool_state"]["full",] == found["callbacks_spool_state"]["filling",] == 1
    pushes[0].close()
    with redis_server.client() as client:
        [(name, states)] = client.zrange(keys.METRICS_PROCESSES, 0, -1, withscores=True)
        client.zadd(keys.METRICS_PROCESSES, {name: states - 60})
    assert scrape(redis_server.url)["callbacks_web_processes"][()] == 0
    pushes[1].close()


def test_what_a_worker_that_died_left_in_rqs_set_is_no_worker(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.sadd(keys.rq_workers("expand"), keys.rq_worker("alive"), keys.rq_worker("dead"))
        client.hset(keys.rq_worker("alive"), "birth", "now")
    assert scrape(redis_server.url)["callbacks_workers"]["expand",] == 1


def test_a_record_that_is_lost_is_a_difference(redis_server: RedisServer) -> None:
    Harness(redis_server.url).accept(
        quarantined=[Quarantined(kind="status", source="one", received_ms=RECEIVED_MS, error="no", body=b"[")]
    )
    with redis_server.client() as client:
        client.hincrby(keys.COUNTS, keys.counter("report", "received"), 3)
    assert scrape(redis_server.url)["callbacks_audit_difference"][()] == 3


def test_the_audit_is_not_taken_anew_at_each_scrape(redis_server: RedisServer) -> None:
    with connections.connect(redis_server.url) as client:
        metrics = ServiceCollector(client, "fsync")
        assert b"callbacks_audit_difference 0.0" in generate_latest(metrics)
        client.hincrby(keys.COUNTS, keys.counter("report", "received"), 3)
        assert b"callbacks_audit_difference 0.0" in generate_latest(metrics)
    assert AUDIT_EVERY_SECONDS >= 60


@pytest.mark.parametrize("options", [{"appendonly": "no"}, {"maxmemory-policy": "allkeys-lru"}])
def test_a_redis_that_does_not_keep_what_it_says_shows(start_redis: StartRedis, options: Mapping[str, str]) -> None:
    found = scrape(start_redis(options).url)
    assert found["callbacks_redis_up"][()] == 1
    assert found["callbacks_redis_durable"][()] == 0
    assert 0 in found["callbacks_redis_durability_check_passed"].values()


def test_memory_used_and_allowed_are_what_redis_says(start_redis: StartRedis) -> None:
    found = scrape(start_redis({"maxmemory": "50mb", "maxmemory-policy": "noeviction"}).url)
    assert found["callbacks_redis_memory_max_bytes"][()] == 50 << 20
    assert 0 < found["callbacks_redis_memory_used_bytes"][()] < 50 << 20


def test_while_redis_is_unavailable_that_is_all_there_is_to_say_and_all_is_back_with_it(
    start_redis: StartRedis,
) -> None:
    server = start_redis()
    with connections.connect(server.url) as client:
        metrics = ServiceCollector(client, "fsync")
        assert b"callbacks_redis_up 1.0" in generate_latest(metrics)
        server.kill()
        away = generate_latest(metrics).decode()
        assert [line for line in away.splitlines() if not line.startswith("#")] == ["callbacks_redis_up 0.0"]
        server.start()
        until(lambda: b"callbacks_redis_up 1.0" in generate_latest(metrics))
        assert b"callbacks_redis_durable 1.0" in generate_latest(metrics)


def test_a_queue_that_waits_on_purpose_says_for_whom(redis_server: RedisServer) -> None:
    harness = Harness(redis_server.url, choosy)
    harness.accept(status(record("1")))
    harness.expand()
    assert scrape(redis_server.url)["callbacks_queue_paused"] == {
        ("handler", "deliver-choosy"): 0,
        ("operator", "deliver-choosy"): 0,
        ("memory", "deliver-choosy"): 0,
    }

    pause.pause(harness.connection, "choosy")

    assert scrape(redis_server.url)["callbacks_queue_paused"]["operator", "deliver-choosy"] == 1
