"""What *Now* and `callbacks top` show, out of a real Redis after real traffic."""

import msgspec
import pytest
import redis

from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler
from callbacks.ops.status import service_status
from callbacks.ops.status.audit_cache import MAX_JOBS, AuditCache
from callbacks.ops.status.service_status import ServiceStatus
from shared import connections, keys, queues, settings
from shared.metrics import CALL_BUCKETS, DELIVERY_BUCKETS, SECONDS_BUCKETS, Metrics
from shared.metrics_push import MetricsPush
from shared.recent_rate import BUCKET_SECONDS
from tests.integration.harness import Harness, record, reply, status, statuses
from tests.redis_server import RedisServer, StartRedis
from workers.admin import handler_states
from workers.runtime import pause


@handler(ReportEvent, ReplyEvent)
def choosy(event: ReportEvent | ReplyEvent) -> None:
    """Take what is delivered, reject what is rejected, and try the rest again."""
    status = getattr(event, "status", None)
    if status == "REJECTD":
        raise Reject("never")
    if status == "UNDELIV":
        raise Retry(after_seconds=3600)


@handler(ReportEvent, batch=True)
def all_at_once(events: list[ReportEvent]) -> None:
    """Take all of them."""


def read(server: RedisServer, audit_cache: AuditCache | None = None) -> ServiceStatus:
    with connections.connect(server.url) as client:
        return service_status.read_status(client, settings.load({"REDIS_URL": server.url}), audit_cache)


def test_a_service_that_has_seen_nothing_yet_is_shown_with_zeros(redis_server: RedisServer) -> None:
    found = read(redis_server)

    assert [queue.name for queue in found.queues] == ["expand"]
    assert not found.handlers
    assert not found.spools
    assert found.callbacks_per_second == found.workers == found.web_processes == found.quarantined == 0
    assert (found.acknowledged.answers, found.acknowledged.p99_seconds) == (0, None)
    assert found.durable
    assert found.used_bytes > 0
    assert found.balance is not None
    assert (found.balance.balances, found.balance.moving, found.balance.difference) == (True, False, 0)


def test_each_handler_stands_there_with_what_became_of_its_events(redis_server: RedisServer) -> None:
    harness = Harness(redis_server.url, choosy)
    for number, reached in enumerate(("DELIVRD", "DELIVRD", "SEEN", "REJECTD", "UNDELIV", "UNDELIV")):
        harness.accept(status(record(str(number), reached)))
    harness.expand()
    harness.deliver(choosy)
    harness.accept(reply("1"))
    harness.expand()
    harness.accept(reply("2"))
    pause.pause(harness.connection, "choosy")

    found = read(redis_server)

    [at] = found.handlers
    assert (at.handler, at.delivered, at.waiting, at.retrying, at.dead) == ("choosy", 3, 3, 2, 1)
    assert at.pause is not None
    assert (at.pause.by, at.pause.probe_in_seconds, at.workers, at.state) == ("operator", None, 0, "paused")
    assert at.recent_dead == 1
    assert {queue.name: (queue.waiting, queue.scheduled) for queue in found.queues} == {
        "expand": (1, 0),
        "deliver-choosy": (1, 2),
    }
    assert all(queue.oldest_seconds > 0 for queue in found.queues)
    assert found.balance is not None
    assert found.balance.balances


def test_a_handler_is_judged_by_its_attempts_of_the_last_ten_minutes(redis_server: RedisServer) -> None:
    harness = Harness(redis_server.url, choosy)
    harness.accept(status(record("1", "DELIVRD")))
    harness.expand()
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, redis_server.url)
    metrics.histogram(("call", "choosy"), CALL_BUCKETS).observe(50.0, 30)
    metrics.histogram(("call", "choosy"), CALL_BUCKETS).observe(0.002, 10)
    metrics.histogram(("delivery", "choosy"), DELIVERY_BUCKETS).observe(0.02, 8)
    metrics.add(("retried", "choosy"), 30)
    metrics.add(("dead", "choosy"), 2)
    metrics_push.close()

    [at] = read(redis_server).handlers
    assert (at.tried, at.failed) == (40, 32)
    assert at.call_times is not None
    assert 30 < at.call_times.p50_seconds < at.call_times.p99_seconds <= 60
    assert at.delivery_times is not None
    assert 0.01 < at.delivery_times.p50_seconds <= 0.025
    with connections.connect(redis_server.url) as client:
        assert 600 <= client.ttl(keys.RECENT_OUTCOMES) <= 720


def test_each_handler_has_the_time_of_what_it_did_last_and_a_late_push_sets_none_back(
    redis_server: RedisServer,
) -> None:
    harness = Harness(redis_server.url, choosy)
    harness.accept(status(record("1", "DELIVRD")))
    harness.expand()
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, redis_server.url)
    metrics.add(("accepted", "report", "gateway"))
    metrics.histogram(("delivery", "choosy"), DELIVERY_BUCKETS).observe(0.02)
    metrics.add(("dead", "choosy"))
    metrics_push.push()
    found = read(redis_server)
    [at] = found.handlers
    assert at.last.delivered_at is not None
    assert (at.last.dead_at, at.last.retried_at) == (at.last.delivered_at, None)
    assert found.last_accepted_at == at.last.delivered_at
    assert abs((found.at - at.last.delivered_at).total_seconds()) < 60

    later = int(at.last.delivered_at.timestamp()) + 1000
    harness.connection.hset(keys.METRICS, "last_delivered_at|choosy", later)
    metrics.histogram(("delivery", "choosy"), DELIVERY_BUCKETS).observe(0.02)
    metrics_push.close()

    assert harness.connection.hget(keys.METRICS, "last_delivered_at|choosy") == str(later).encode()
    [state] = handler_states.read_states(harness.connection, [])
    assert state.last.dead_at == at.last.dead_at


def test_each_call_of_a_handler_is_measured_and_a_batch_is_one_call(redis_server: RedisServer) -> None:
    harness = Harness(redis_server.url, choosy, all_at_once)
    harness.accept(*statuses(["1", "2", "3"]))
    harness.expand()
    harness.deliver(choosy)
    harness.deliver(all_at_once)

    counted = harness.metrics.snapshot()
    for name, calls in (("choosy", 3), ("all_at_once", 1)):
        assert sum(n for metric, n in counted.items() if metric.startswith(f"call|{name}|le")) == calls
        assert sum(n for metric, n in counted.items() if metric.startswith(f"delivery|{name}|le")) == 3


def test_a_handler_that_gets_events_is_listed_before_its_first_and_after_its_removal_while_something_is_left(
    redis_server: RedisServer,
) -> None:
    with connections.connect(redis_server.url) as client:
        client.hset(keys.SUBSCRIPTIONS, "fresh", "1795000000000-")
        client.hset(keys.SUBSCRIPTIONS, "gone", "1795000000000-1795100000000")
        client.hset(keys.COUNTS, keys.handler_counter("gone", "report", "delivered"), 5)
        client.hset(keys.COUNTS, keys.handler_counter("gone", "report", "queued"), 5)

    found = read(redis_server)
    assert [(at.handler, at.state) for at in found.handlers] == [("fresh", "no worker")]
    assert [queue.name for queue in found.queues] == ["expand", "deliver-fresh"]

    with connections.connect(redis_server.url) as client:
        client.zadd(keys.dead("gone"), {"a": 1.0})
    assert [(at.handler, at.state) for at in read(redis_server).handlers] == [
        ("fresh", "no worker"),
        ("gone", "removed"),
    ]


def test_statuses_that_are_not_documented_are_listed_the_most_first(redis_server: RedisServer) -> None:
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, redis_server.url)
    for status_name, number in (("PENDING", 2), ("HELD", 9), ("other", 1)):
        metrics.add(("unknown_status", status_name), number)
    metrics_push.close()

    assert read(redis_server).unknown_statuses == (("HELD", 9), ("PENDING", 2), ("other", 1))


def test_the_last_hour_needs_nobody_who_was_looking(redis_server: RedisServer) -> None:
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, redis_server.url)
    metrics.add(("accepted", "report", "gateway"), 600)
    metrics.histogram(("acknowledged",), SECONDS_BUCKETS).observe(0.002, 600)
    metrics_push.close()
    with connections.connect(redis_server.url) as client:
        held = client.hgetall(keys.RECENT_RATE)
        # As if it had been told some buckets earlier.
        [(slot, text)] = held.items()
        counts = msgspec.json.decode(text)
        counts["bucket"] -= 2
        client.delete(keys.RECENT_RATE)
        client.hset(keys.RECENT_RATE, slot, msgspec.json.encode(counts))

    found = read(redis_server)

    assert sum(bucket.callbacks for bucket in found.recent_rate) == 600
    assert found.callbacks_per_second == pytest.approx(10.0)
    assert found.at.timestamp() - found.recent_rate[-1].began_seconds < 2 * BUCKET_SECONDS + 3
    assert found.acknowledged.answers == 600
    assert found.acknowledged.p50_seconds is not None
    assert 0.001 < found.acknowledged.p50_seconds <= 0.0025


def test_the_state_of_spools_is_shown_for_each_web_process_that_lives(redis_server: RedisServer) -> None:
    states = [{"state": state, "callbacks": 5, "bytes": 100, "limit_bytes": 1000} for state in ("filling", "full")]
    pushes = [MetricsPush(Metrics(), redis_server.url, state=state.copy) for state in states]
    for metrics_push in pushes:
        metrics_push.push()

    found = read(redis_server)

    assert sorted(spool.state for spool in found.spools) == ["filling", "full"]
    assert found.web_processes == 2
    for metrics_push in pushes:
        metrics_push.close()


def test_what_is_lost_is_a_difference_and_the_balance_says_how_old_it_is(redis_server: RedisServer) -> None:
    Harness(redis_server.url, choosy).accept(*statuses(["1", "2"]))
    with connections.connect(redis_server.url) as client:
        audit_cache = AuditCache(client, every_seconds=3600)
        assert read(redis_server, audit_cache).balance is not None
        client.hincrby(keys.COUNTS, keys.counter("report", "received"), 3)

        held = read(redis_server, audit_cache).balance
        anew = read(redis_server).balance

    assert held is not None
    assert anew is not None
    assert (held.difference, anew.difference) == (0, 3)
    assert held.age_seconds > anew.age_seconds
    assert not anew.balances


def test_while_very_much_waits_the_audit_is_not_taken(redis_server: RedisServer) -> None:
    with connections.connect(redis_server.url) as client:
        client.rpush(keys.rq_queue(queues.EXPAND), *map(str, range(MAX_JOBS + 1)))
        audit_cache = AuditCache(client, every_seconds=0)
        assert read(redis_server, audit_cache).balance is None
        client.lpop(keys.rq_queue(queues.EXPAND))
        assert read(redis_server, audit_cache).balance is not None


def test_a_redis_that_does_not_keep_what_it_says_shows(start_redis: StartRedis) -> None:
    found = read(start_redis({"appendonly": "no", "maxmemory": "100mb"}))

    assert not found.durable
    assert "appendonly" in {finding.name for finding in found.findings if not finding.ok}
    assert found.max_bytes == 100 << 20


def test_while_redis_is_unavailable_there_is_nothing_to_see(start_redis: StartRedis) -> None:
    server = start_redis()
    server.kill()

    with pytest.raises(redis.ConnectionError):
        read(server)
