"""deploy/redis/users.conf: the whole service runs under these rights, and each of them is needed."""

import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
import redis

from callbacks import ReportEvent
from shared import audit, live
from shared.live import Listening
from tests.acceptance.processes import get, run, started
from tests.deploy.deployment import BUNDLE, TOKEN, UNREADABLE, environment, post
from tests.deploy.redis_rights import (
    BULK_ACTION_RIGHTS,
    FEED_RIGHTS,
    METRICS_RIGHTS,
    NOTICE_RIGHTS,
    SIGN_OUT_RIGHTS,
    denied,
    rights,
    url,
    without,
)
from tests.integration.harness import open_harness, statuses
from tests.integration.scripted_handlers import other
from tests.redis_server import RedisServer, free_port


def test_a_small_campaign_goes_through_and_nothing_is_denied(restricted_redis: RedisServer, tmp_path: Path) -> None:
    port, ops_port = free_port(), free_port()
    with (
        started(tmp_path, environment(url(restricted_redis, "worker"), port, tmp_path)) as start,
        restricted_redis.client() as client,
    ):
        web = start("web", REDIS_URL=url(restricted_redis, "web"))
        ops = start("ops", REDIS_URL=url(restricted_redis, "ops"), CALLBACKS_OPS_PORT=str(ops_port))
        workers = [start("worker", "expand"), start("worker", "deliver")]
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        base = f"http://127.0.0.1:{port}"
        gateway = start("simulate", f"{base}/callbacks/{TOKEN}", "--destinations", "200", "--retry-seconds", "0.1")
        assert gateway.wait() == 0, gateway.output
        assert post(base, UNREADABLE)[0] == 200
        ops.until(lambda: get(f"http://127.0.0.1:{ops_port}/audit")[1]["pending"] == 0, "rest")

        assert get(f"http://127.0.0.1:{ops_port}/audit")[1]["balances"] is True
        with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/metrics") as metrics:
            assert b"callbacks_" in metrics.read()
        as_worker = {"REDIS_URL": url(restricted_redis, "worker")}
        dropped = run("quarantine", "drop", "--all", "--yes", cwd=tmp_path, environment=as_worker)
        assert dropped.returncode == 0, dropped.stderr
        assert run("audit", cwd=tmp_path, environment={"REDIS_URL": url(restricted_redis, "ops")}).returncode == 0
        assert [process.stop() for process in (web, *workers)] == [0, 0, 0]
        assert denied(client) == []


def test_the_web_process_needs_each_of_its_rights(restricted_redis: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with (
        started(tmp_path, environment(url(restricted_redis, "web"), port, tmp_path)) as start,
        restricted_redis.client() as client,
    ):
        web = start("web", CALLBACKS_SPOOL_DIR="")
        for right in rights("web"):
            if right in METRICS_RIGHTS:
                continue
            web.until(lambda: get(f"{base}/readyz")[0] == 200, "readiness")
            if right == "+bgrewriteaof":
                # Used once, before the first callback; tests/integration/commit/test_torn_append_only_file.py lacks it.
                assert client.info("persistence")["aof_last_rewrite_time_sec"] >= 0
                continue
            with without(client, "web", right):
                if right == "+info":
                    web.until(lambda: get(f"{base}/readyz")[0] == 503, "the loss of INFO")
                    continue
                answers = {post(base, BUNDLE)[0], post(base, UNREADABLE)[0]}
                assert 503 in answers, right


def test_the_web_process_cannot_read_what_was_sent(restricted_redis: RedisServer) -> None:
    with redis.Redis.from_url(url(restricted_redis, "web")) as client:
        for command in (
            ("HGET", "rq:job:x", "data"),
            ("LRANGE", "rq:queue:expand", 0, 1),
            ("SET", "x", "y"),
            ("KEYS", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_the_operators_page_reads_and_needs_each_of_its_rights(restricted_redis: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    with (
        started(tmp_path, environment(url(restricted_redis, "ops"), port, tmp_path)) as start,
        restricted_redis.client() as client,
    ):
        # Something to be counted, so that every kind of key is read.
        client.hset("cb:counts", mapping={"report.received": 1, "report.unique": 1, "report.queued:log": 1})
        client.rpush("rq:queue:deliver-log", "a")
        client.hset("rq:job:a", mapping={"items": 1})
        ops = start("ops", CALLBACKS_OPS_PORT=str(port))
        ops.until(lambda: get(f"{page}/audit")[0] == 200, "the page")
        # INFO and TIME are for /metrics, which the campaign above reads under these rights, PING for a quiet feed.
        for right in (
            set(rights("ops"))
            - {"+info", "+time", "+ping"}
            - FEED_RIGHTS
            - BULK_ACTION_RIGHTS
            - SIGN_OUT_RIGHTS
            - NOTICE_RIGHTS
        ):
            with without(client, "ops", right):
                # For a moment it may still tell what it has just looked up.
                ops.until(lambda: 503 in {get(f"{page}/audit")[0], get(f"{page}/readyz")[0]}, right)
    with redis.Redis.from_url(url(restricted_redis, "ops")) as reader:
        for command in (("SADD", "cb:seen:1:0", 1), ("DEL", "cb:seen:1:0"), ("LPOP", "rq:queue:expand"), ("FLUSHALL",)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                reader.execute_command(*command)


@pytest.mark.parametrize("right", ["~rq:*", "~cb:*", "+@read", "+@write", "+evalsha", "+multi", "+exec"])
def test_workers_that_lack_a_right_are_told_so_by_redis_and_lose_nothing(
    right: str, restricted_redis: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    with (
        started(tmp_path, environment(url(restricted_redis, "worker"), port, tmp_path)) as start,
        restricted_redis.client() as client,
    ):
        web = start("web", REDIS_URL=url(restricted_redis, "web"))
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        assert post(f"http://127.0.0.1:{port}")[0] == 200
        with without(client, "worker", right):
            lacking = start("worker", "expand")
            deadline = time.monotonic() + 60
            while not denied(client) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert denied(client), right
            lacking.stop()

        workers = [start("worker", "expand"), start("worker", "deliver")]
        with restricted_redis.client(decode_responses=False) as counted:
            workers[0].until(lambda: audit.run(counted).pending == 0, "rest")
            assert audit.run(counted).balances


def test_the_page_hears_the_feed_of_the_workers_and_each_needs_its_rights_to_it(restricted_redis: RedisServer) -> None:
    def received(number: int) -> bool:
        """Whether an event that a worker expands comes through."""
        with (
            closing(live.listen_sync(url(restricted_redis, "ops"), idle_seconds=0.5)) as feed,
            open_harness(url(restricted_redis, "worker"), other) as harness,
        ):
            if next(feed) != Listening():
                return False
            harness.accept(*statuses([str(number)]))
            harness.expand()
            return isinstance(next(feed), ReportEvent)

    with restricted_redis.client() as client:
        assert received(0)
        assert denied(client) == []
        for number, (user, right) in enumerate(
            [("worker", "&cb:live:*"), ("worker", "+pubsub|numsub"), ("worker", "+publish")], start=1
        ):
            with without(client, user, right):
                assert not received(number), right
        for right in ("&cb:live:*", "+subscribe"):
            with without(client, "ops", right), pytest.raises(redis.exceptions.NoPermissionError):
                next(live.listen_sync(url(restricted_redis, "ops")))
