"""The queue of a paused or removed handler: it is kept, drained, or purged, and the audit balances."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from callbacks import samples
from shared import events, keys, queues
from tests.acceptance.processes import run, started
from tests.integration.harness import HandlerTotals, Harness, open_harness, statuses
from tests.integration.scripted_handlers import accept_and_expand, fail_for, other, script, single
from tests.redis_server import RedisServer
from workers.admin import purge as purge_module
from workers.admin.purge import Purger, StillRunning

HANDLERS = """
from pathlib import Path
from callbacks import ReplyEvent, ReportEvent, Retry, handler

@handler(ReportEvent, attempts=3)
def single(event):
    if event.message_id == "late" and not Path("late").exists():
        Path("late").touch()
        return Retry(2)
    with open("calls", "a") as file:
        file.write(event.message_id + "\\n")
"""
QUEUE = keys.rq_queue(queues.delivery_queue("single"))


@pytest.fixture
def harness(redis_server: RedisServer) -> Iterator[Harness]:
    script.calls.clear()
    script.act = lambda _event: None
    with open_harness(redis_server.url, single, other) as opened:
        yield opened


@pytest.fixture
def command(redis_server: RedisServer, tmp_path: Path) -> Callable[..., "CompletedProcess[str]"]:
    """Return a function that runs `callbacks handlers …` where `single` is declared in the module `shop`."""
    (tmp_path / "shop.py").write_text(HANDLERS)

    def run_it(*words: str, named: str = "log") -> "CompletedProcess[str]":
        environment = {"REDIS_URL": redis_server.url, "CALLBACKS_HANDLERS": named}
        return run("handlers", *words, cwd=tmp_path, environment=environment)

    return run_it


def rows(ended: "CompletedProcess[str]") -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in map(json.loads, ended.stdout.splitlines())}


def test_the_list_has_the_queue_of_each_handler_and_of_removed_ones(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"]
) -> None:
    harness.accept(*statuses(["1", "2", "3"]))
    harness.accept(*statuses(["4"]))
    harness.expand()
    harness.deliver(other)
    script.act = fail_for("4")
    harness.deliver(single, max_jobs=1)
    found = rows(command("--json", named="shop"))

    queue = found["single"]["queue"]
    assert isinstance(queue, dict)
    assert found["single"]["kind"] == "named"
    assert queue["waiting"] + queue["scheduled"] == 1
    assert "other" not in found  # removed, and has left nothing
    assert found["log"]["kind"] == "installed"

    harness.accept(*statuses(["5", "6"]))
    harness.expand()
    found = rows(command("list", "--json", named="shop"))
    assert found["other"]["kind"] == "removed"
    queue = found["other"]["queue"]
    assert isinstance(queue, dict)
    assert (queue["waiting"], queue["jobs"], queue["workers"]) == (2, 1, 0)
    assert queue["oldest_at"] == "2023-11-14T22:13:20.000Z"
    text = command(named="shop").stdout
    assert "`callbacks handlers purge other` discards it" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("due", "shown"),
    [(1e12, "9999-12-30T00:00:00.000Z"), (math.inf, "9999-12-30T00:00:00.000Z"), (-1e15, "0001-01-02T00:00:00.000Z")],
)
def test_the_list_shows_any_time_that_redis_holds(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"], due: float, shown: str
) -> None:
    harness.accept(*statuses(["1"]))
    harness.expand()
    (job_id,) = harness.waiting_jobs(queues.delivery_queue("single"))
    harness.connection.lrem(QUEUE, 1, job_id)
    harness.connection.zadd(keys.rq_scheduled(queues.delivery_queue("single")), {job_id: due})
    paused = {"by": "handler", "since_ms": "nan", "until_ms": 1e300 if due > 0 else -1e300, "times": 1}
    harness.connection.hset(keys.paused("single"), mapping=paused)

    assert command(named="shop").returncode == 0
    queue = rows(command("--json", named="shop"))["single"]["queue"]

    assert isinstance(queue, dict)
    assert queue["next_attempt_at"] == shown
    assert queue["paused"]["until"] == shown
    assert queue["paused"]["since"] == "1970-01-01T00:00:00.000Z"


def test_the_list_names_a_broken_module_and_still_lists_the_others(
    command: Callable[..., "CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    ended = command(named="broken,shop")

    assert ended.returncode == 1
    assert "✗ broken: cannot be imported: ZeroDivisionError" in ended.stdout
    assert "single: shop.single" in ended.stdout
    assert rows(command("--json", named="broken,shop"))["broken"]["declared"] is None


def test_the_list_works_without_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "shop.py").write_text(HANDLERS)
    for url, code in (("", 0), ("redis://127.0.0.1:1/0", 1)):
        environment = {"CALLBACKS_HANDLERS": "shop"} | ({"REDIS_URL": url} if url else {})
        ended = run("handlers", cwd=tmp_path, environment=environment)
        assert ended.returncode == code
        assert "The state of the queues is unknown" in ended.stdout
        assert "single: shop.single" in ended.stdout


def test_the_queue_of_a_paused_handler_is_kept_and_delivered_when_it_is_resumed(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"], tmp_path: Path, redis_server: RedisServer
) -> None:
    accept_and_expand(harness, "1", "2")
    assert command("pause", "single", named="shop").returncode == 0
    calls = tmp_path / "calls"
    environment = {"REDIS_URL": redis_server.url, "CALLBACKS_HANDLERS": "shop"}
    with started(tmp_path, environment) as start:
        worker = start("worker", "deliver")
        worker.until(lambda: harness.connection.smembers(f"rq:workers:{queues.delivery_queue('single')}"), "a worker")
        harness.accept(*statuses(["3"]))
        harness.expand()
        time.sleep(2)
        assert not calls.exists()
        assert "resumes it" in command(named="shop").stdout
        ended = command("resume", "single", named="shop")
        assert ended.stdout.startswith("'single' is resumed; 3 events")
        worker.until(lambda: harness.totals(single).delivered == 3, "the delivery of what waited")
    assert calls.read_text().split() == ["1", "2", "3"]
    assert harness.audit().balances
    assert command("resume", "single", named="shop").stdout.startswith("'single' was not paused; 0 events")


def test_what_waits_for_a_removed_handler_is_delivered_by_the_module_that_declares_it(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"], tmp_path: Path
) -> None:
    harness.accept(*statuses(["1", "late", *(str(number) for number in range(2, 150))], bundle=1))
    harness.expand()
    harness.deliver(other)

    refused = command("drain", "single", named="shop")
    assert refused.returncode == 2
    assert "`callbacks worker deliver` delivers" in refused.stderr
    assert command("drain", "single").returncode == 2  # nobody said where it is declared
    ended = command("drain", "single", "--from", "shop")
    assert ended.returncode == 0, ended.stderr
    assert "The queue of 'single' is empty" in ended.stdout
    assert "to be retried" in ended.stderr
    calls = (tmp_path / "calls").read_text().split()
    assert sorted(calls) == sorted(["1", "late", *(str(number) for number in range(2, 150))])
    assert calls[-1] == "late"
    assert harness.totals(single) == HandlerTotals(delivered=150)
    assert command("drain", "single", "--from", "shop").stdout == "Nothing waits for 'single'.\n"


def test_a_drain_reports_a_pause_and_continues_after_it(
    harness: Harness, tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "shop.py").write_text(HANDLERS)
    accept_and_expand(harness, "1")
    harness.deliver(other)
    now_ms = int(time.time() * 1000)
    pause = {"by": "handler", "since_ms": now_ms, "until_ms": now_ms + 600_000, "reason": "the shop\nis shut"}
    harness.connection.hset(keys.paused("single"), mapping=pause)
    with started(tmp_path, {"REDIS_URL": redis_server.url, "CALLBACKS_HANDLERS": "log"}) as start:
        drain = start("handlers", "drain", "single", "--from", "shop")
        drain.until(lambda: "'single' is paused: nothing is delivered" in drain.output, "word of the pause")
        assert "It says: the shop is shut\n" in drain.output
        harness.connection.hset(keys.paused("single"), "until_ms", now_ms)
        assert drain.wait() == 0
        assert drain.output.count("is paused") == 1
    assert harness.totals(single) == HandlerTotals(delivered=1)


def test_purged_events_count_as_dropped_also_scheduled_ones(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"]
) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = fail_for("2")
    harness.deliver(single)
    assert harness.totals(single) == HandlerTotals(delivered=2, waiting=1)
    accept_and_expand(harness, "4", "5")

    assert command("purge", "single", "--yes", named="shop").returncode == 2
    refused = command("purge", "singel", "--yes")
    assert refused.returncode == 2
    assert "No handler 'singel' is known (did you mean 'single'?)" in refused.stderr
    assert command("purge", "single").returncode == 1  # nobody said yes
    assert harness.totals(single) == HandlerTotals(delivered=2, waiting=3)
    ended = command("purge", "single", "--yes")
    assert (ended.returncode, ended.stdout) == (0, "dropped: 3\n")
    assert harness.totals(single) == HandlerTotals(delivered=2)
    assert harness.counters()["report.dropped:single"] == 3
    assert harness.totals(other) == HandlerTotals(waiting=5)
    assert not [key for key in harness.leftover_keys() if "single" in key]
    assert len(harness.leftover_keys()) == len(harness.waiting_jobs(queues.delivery_queue("other"))) + 1


def test_a_named_handler_can_be_purged_while_it_is_paused(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"]
) -> None:
    accept_and_expand(harness, "1")
    command("pause", "single", named="shop")
    ended = command("purge", "single", "--yes", "--json", named="shop")

    assert json.loads(ended.stdout) == {"dropped": 1, "unreadable_jobs": 0, "left": 0}


def test_running_jobs_are_not_purged_and_those_of_a_dead_worker_are(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    started_at = f"{harness.waiting_jobs(queues.delivery_queue('single'))[0]}:run"
    registry = keys.rq_started(queues.delivery_queue("single"))
    harness.connection.zadd(registry, {started_at: time.time() + 60})
    harness.connection.delete(QUEUE)
    purger = Purger(harness.connection, "single")
    with pytest.raises(StillRunning, match="'single' has 1 running job, or"):
        purger.prepare()
    assert harness.totals(single) == HandlerTotals(waiting=2)

    harness.connection.zadd(registry, {started_at: time.time() - 1})
    purger.prepare()
    assert sum(part.events for part in purger.run()) == 2
    assert harness.totals(single) == HandlerTotals()


def test_settled_and_finished_events_are_not_dropped_and_coalesced_ones_are(harness: Harness) -> None:
    """One event was settled, and one finished by a worker that died; another job was coalesced into its job."""
    accept_and_expand(harness, "1", "2", "3", "4")
    accept_and_expand(harness, "5", "6")
    first, second = harness.waiting_jobs(queues.delivery_queue("single"))
    harness.connection.hset(keys.job(first), mapping={"progress": "1", "finished": "0,2;"})
    harness.connection.hincrby(keys.COUNTS, keys.handler_counter("single", "report", "delivered"), 1)
    harness.connection.lrem(QUEUE, 1, second)
    harness.connection.rpush(keys.coalesced(first), second)
    assert harness.totals(single) == HandlerTotals(delivered=1, waiting=5)

    assert sum(part.events for part in Purger(harness.connection, "single").run()) == 5
    assert harness.counters()["report.dropped:single"] == 4
    assert harness.totals(single) == HandlerTotals(delivered=2)
    assert not harness.connection.exists(keys.job(first), keys.job(second), keys.coalesced(first))


def test_a_job_that_a_worker_claimed_meanwhile_is_not_changed(harness: Harness) -> None:
    harness.accept(*statuses([str(number) for number in range(3)], bundle=1))
    harness.expand()
    accept_and_expand(harness, "a")
    first, second = harness.waiting_jobs(queues.delivery_queue("single"))
    purger = Purger(harness.connection, "single")
    jobs, _ = purger._read_jobs([first, second])
    harness.connection.hset(keys.job(first), "progress", "1")
    harness.connection.lrem(QUEUE, 1, second)

    assert purger._purge_jobs(jobs) == [0, 0]
    assert harness.connection.exists(keys.job(first), keys.job(second)) == 2
    assert "report.dropped:single" not in harness.counters()


def test_jobs_of_a_newer_release_stay_and_do_not_stop_the_purge(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_module, "_JOBS_PER_READ", 1)
    for number in range(4):
        accept_and_expand(harness, str(number))
    ids = harness.waiting_jobs(queues.delivery_queue("single"))
    newer = queues.encode_call(queues.DELIVER_JOB, (99, "single", 1, []))
    for strange in (ids[0], ids[2]):
        harness.connection.hset(keys.job(strange), "data", newer)

    parts = list(Purger(harness.connection, "single").run())
    assert (sum(part.events for part in parts), sum(part.unreadable for part in parts)) == (2, 2)
    assert harness.waiting_jobs(queues.delivery_queue("single")) == [ids[0], ids[2]]
    assert harness.audit().balances


def test_a_killed_purge_has_purged_a_part_and_the_next_run_purges_the_rest(
    harness: Harness, command: Callable[..., "CompletedProcess[str]"], tmp_path: Path, redis_server: RedisServer
) -> None:
    encoded = events.encode(samples.report())
    jobs = 20_000
    with harness.connection.pipeline(transaction=False) as pipe:
        for _ in range(jobs):
            job_id = queues.new_job_id()
            pipe.hset(keys.job(job_id), mapping=queues.delivery_job("single", [encoded], description="1"))
            pipe.rpush(QUEUE, job_id)
        pipe.hincrby(keys.COUNTS, keys.handler_counter("single", "report", "queued"), jobs)
        pipe.sadd(keys.RQ_QUEUES, QUEUE)
        pipe.execute()
    with started(tmp_path, {"REDIS_URL": redis_server.url, "CALLBACKS_HANDLERS": "log"}) as start:
        running = start("handlers", "purge", "single", "--yes")
        running.until(lambda: harness.connection.llen(QUEUE) < jobs, "a first part")
        running.process.send_signal(signal.SIGKILL)
        running.wait()
    left = harness.totals(single).waiting
    assert harness.totals(single) == HandlerTotals(waiting=left)
    assert 0 < left < jobs

    assert command("purge", "single", "--yes").stdout == f"dropped: {left:,}\n"
    assert harness.totals(single) == HandlerTotals()
    assert harness.counters()["report.dropped:single"] == jobs
    assert harness.leftover_keys() == set()
    assert not harness.connection.sismember(keys.RQ_QUEUES, QUEUE)
