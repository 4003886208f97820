"""What would make a figure of the benchmarks a lie is noticed. (tests/chaos/test_benchmarks.py runs their commands.)"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import (
    backlog,
    bodies,
    contestants,
    cost,
    machine,
    measurements,
    open_loop,
    processor_time,
    redis_counts,
    table,
    wrk,
)
from benchmarks.command import SCALES, Run
from benchmarks.deployment import REPOSITORY, Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import Comparison, Results, Series
from ingest.group_commit import MAX_BYTES
from shared import audit
from tests.measured_machine import MACHINE
from tests.redis_server import require


def test_the_table_judges_by_medians_and_marks_what_is_not_met() -> None:
    results = at_64(ours=[90.0, 110.0, 100.0], starlette=[99.0, 50.0, 120.0], rq=[9.0, 9.0, 10.0])

    rows = [line for line in table.lines({"acknowledge": results}) if line.startswith("| P")]

    assert "100/s; 1.01 × Starlette no-op (0.83 to 2.20); not measured; **11.11 × naive RQ (10.00" in rows[0]  # noqa: RUF001
    assert rows[0].endswith("| not met |")
    assert rows[1].endswith("not measured | open |")


def test_a_goal_whose_peer_is_absent_is_open_not_met() -> None:
    results = at_64(ours=[100.0], starlette=[50.0], rq=[5.0])

    assert next(line for line in table.lines({"acknowledge": results}) if line.startswith("| P1")).endswith("| open |")


def test_costs_stand_before_rates_and_a_handler_s_cost_is_the_difference() -> None:
    series = [
        Series(name, [{cost.FILE: file, cost.REDIS_CPU: cpu}])
        for name, file, cpu in (("1", 4.0, 40.0), ("4", 9.0, 99.0), ("12", 7.3, 128.0))
    ]
    results = at_64(ours=[100.0])
    compared = Results(
        table="cost",
        measured_at=results.measured_at,
        scale="full",
        machine=MACHINE,
        comparisons=[Comparison(cost.BY_HANDLERS, series)],
    )

    lines = list(table.lines({"cost": compared}))

    assert "0.30 × the body; 8.0 µs | met |" in next(line for line in lines if line.startswith("| C4"))  # noqa: RUF001
    assert lines.index("| | cost | goal | measured | |") < lines.index("| | rate or time | goal | measured | |")


def test_the_processor_time_of_a_process_includes_its_descendants(deployment: Deployment) -> None:
    script = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; sleep 60) & wait"
    process = deployment.start("a shell", ["sh", "-c", script])
    process.wait_until(lambda: "done" in process.output, "its child's work")

    user, kernel = processor_time.cpu_seconds(process.pid)
    found = processor_time.by_name([deployment])
    assert found["CPU of a, µs"] > (user + kernel) * 1e6
    assert 0 <= found["CPU of a, µs in the kernel"] < found["CPU of a, µs"], "a shell that counts is in user mode"
    assert processor_time.total_us(deployment) > found["CPU of a, µs"], "Redis took some too"
    process.stop()


def test_what_it_took_is_divided_by_callbacks_and_added_up(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter([processor_time.metrics("web", 100.0, 50.0), processor_time.metrics("web", 700.0, 250.0)])
    monkeypatch.setattr(processor_time, "by_name", lambda _: next(used))

    measured = cost.per_callback([deployment], lambda: 10, None)

    assert measured["CPU of web, µs"] == measured[cost.CPU] == 80.0
    assert measured["CPU of web, µs in the kernel"] == measured["CPU, µs in the kernel"] == 20.0
    assert measured["callbacks"] == 10


def test_contestants_take_turns() -> None:
    turns: list[str] = []

    def turn(name: str) -> measurements.Measurements:
        turns.append(name)
        return {"turn": len(turns)}

    run = Run(scale=SCALES["tiny"], peers=True)
    run.compare("turns", {"callbacks": lambda: turn("A"), "peer": lambda: turn("B")}, repetitions=3)

    assert turns == ["A", "B", "A", "B", "A", "B"]
    assert [sample["turn"] for sample in run.comparisons[0].series[1].samples] == [2, 4, 6]


def test_a_peer_that_fails_is_absent_with_the_reason_and_has_no_measurement() -> None:
    tries: list[int] = []

    def fail() -> measurements.Measurements:
        tries.append(1)
        if len(tries) == 2:
            raise MeasurementFailed("it lost a callback")
        return {"rate": 1.0}

    run = Run(scale=SCALES["tiny"], peers=True)
    run.compare("rates", {"callbacks": lambda: {"rate": 1.0}, "peer": fail}, repetitions=5)

    assert [one.name for one in run.comparisons[0].series] == ["callbacks"]
    assert run.absent == {"peer": "it lost a callback"}


def test_a_failure_of_our_own_is_no_absence() -> None:
    def fail() -> measurements.Measurements:
        raise MeasurementFailed("it lost a callback")

    with pytest.raises(MeasurementFailed):
        Run(scale=SCALES["tiny"], peers=True).compare("rates", {"callbacks": fail})


def test_packages_that_are_not_installed_make_a_peer_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contestants, "NODE", tmp_path)
    run = Run(scale=SCALES["tiny"], peers=True)

    assert run.present([contestants.NAIVE_RQ, contestants.BULLMQ]) == [contestants.NAIVE_RQ]
    assert "not installed" in run.absent["Fastify + BullMQ"] or "no node" in run.absent["Fastify + BullMQ"]
    assert Run(scale=SCALES["tiny"], peers=False).present([contestants.NAIVE_RQ]) == []


def test_bodies_are_distinct_and_of_one_size() -> None:
    numbers = (0, 1, 99_999_999_999)
    made = [msgspec.json.decode(bodies.body(number)) for number in numbers]
    ids = [record["message_id"] for body in made for record in body["data"]]

    assert len(set(ids)) == len(ids) == 3 * bodies.REPORTS
    assert [bodies.number_of(each) for each in ids] == [n for n in numbers for _ in range(bodies.REPORTS)]
    assert {len(bodies.body(number)) for number in numbers} == {len(bodies.template())} == {615}


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    require()
    with Deployment() as opened:
        yield opened


@pytest.fixture(scope="module")
def web(deployment: Deployment) -> TargetUrl:
    return deployment.web()


@pytest.mark.skipif(bool(machine.missing("wrk")), reason="there is no wrk on the PATH")
def test_wrk_sends_callbacks_that_nobody_sent_before_and_each_is_kept(deployment: Deployment, web: TargetUrl) -> None:
    deployment.redis.flushall()

    load = wrk.load(web, connections=8, seconds=1)

    ids, kept = at_rest(deployment)
    assert load.requests * bodies.REPORTS <= kept <= (load.requests + 8) * bodies.REPORTS
    assert "warning" not in str(load)
    assert len(ids) == len(set(ids)) == kept


def test_the_open_loop_does_so_too_and_at_its_rate(deployment: Deployment, web: TargetUrl) -> None:
    deployment.redis.flushall()

    sent = open_loop.send(web, rate=200, seconds=0.5, first=7)

    assert (sent.sent, sent.not_200) == (100, 0)
    assert sent.due_ns(7) == sent.start_ns
    assert sent.due_ns(107) - sent.start_ns == 500_000_000
    ids = re.findall(r"14466\d{15}", "".join(waiting_data(deployment)))
    assert sorted({bodies.number_of(each) for each in ids}) == list(range(7, 107))


def test_answers_other_than_200_are_not_measured(web: TargetUrl) -> None:
    wrong = TargetUrl(web.port, "/callbacks/wrong/status")

    if not machine.missing("wrk"):
        with pytest.raises(MeasurementFailed, match="not answered with 200"):
            wrk.load(wrong, connections=2, seconds=1)
    assert open_loop.send(wrong, rate=100, seconds=0.1, first=0).not_200 == 10


@pytest.mark.parametrize("connections", [1, 256])
def test_the_open_loop_counts_from_when_a_callback_was_due(connections: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stands still for half a second makes all wait that were due meanwhile, not only the one it had."""
    monkeypatch.setattr(open_loop, "MAX_CONNECTIONS", connections)

    with hanging_server(0.5) as url:
        sent = open_loop.send(url, rate=100, seconds=0.4, first=0)

    assert sent.not_200 == 0
    assert sent.acknowledged_p50_ms > 100, "half of them were due more than 0.3 s before it went on"


def test_acknowledged_callbacks_that_are_not_in_redis_are_not_measured(deployment: Deployment) -> None:
    deployment.redis.flushall()
    backlog.fill(deployment.redis, 5)

    contestants.check_stored(contestants.OURSELVES, deployment, before=0, requests=5, connections=1)
    for requests in (6, 3):
        with pytest.raises(MeasurementFailed, match="Redis has 5"):
            contestants.check_stored(contestants.OURSELVES, deployment, before=0, requests=requests, connections=1)


def test_waiting_callbacks_are_committed_as_a_commit_would(deployment: Deployment) -> None:
    deployment.redis.flushall()
    backlog.fill(deployment.redis, 90, per_job=40)
    assert backlog.job_sizes(deployment.redis) == [40, 40, 10]

    deployment.redis.flushall()
    backlog.fill(deployment.redis, 3, per_job=40, reports=5000)
    assert [len(data) < MAX_BYTES * 1.2 for data in waiting_data(deployment)] == [True, True, True]


@pytest.fixture
def undisturbed() -> Iterator[Any]:
    """Return a client of a Redis that no process of ours uses."""
    with Deployment() as opened:
        yield opened.redis


def test_what_redis_did_is_counted(undisturbed: Any) -> None:
    redis = undisturbed
    redis.set("key", "value")  # the first write is preceded by a SELECT
    before = redis_counts.read(redis)
    for number in range(20):
        redis.set(f"key:{number}", "value")
    redis.get("key:1")

    counts = redis_counts.read(redis) - before

    assert (counts.commands, counts.round_trips, counts.fsyncs, counts.keys) == (21, 22, 20, 20)
    assert counts.file_bytes == sum(
        len(f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n$5\r\nvalue\r\n")
        for key in (f"key:{number}" for number in range(20))
    )


def test_the_longest_script_is_found(undisturbed: Any) -> None:
    redis_counts.watch_scripts(undisturbed)
    assert redis_counts.longest_script_ms(undisturbed) == 0

    undisturbed.eval("local sum = 0 for i = 1, 1000000 do sum = sum + i end return sum", 0)

    assert redis_counts.longest_script_ms(undisturbed) > 0.1


def test_what_is_left_when_a_stage_ends() -> None:
    with Deployment() as opened:
        folder, part = opened.folder, opened.start("a sleeper", ["sleep", "60"])
        assert folder.is_dir()

    assert part.process.poll() is not None
    assert not folder.exists()


def test_the_lock_names_no_registry() -> None:
    text = (contestants.NODE / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in text
    assert "resolved" not in text
    assert "registry" not in text
    assert str(REPOSITORY) not in text


def at_64(**rates: list[float]) -> Results:
    names = {"ours": measurements.OURS, "starlette": contestants.NO_OP.name, "rq": contestants.NAIVE_RQ.name}
    series = [Series(names[who], [{"requests/s": rate} for rate in all_rates]) for who, all_rates in rates.items()]
    comparisons = [Comparison("64 connections", series)]
    return Results(
        table="acknowledge", measured_at="2026-01-01", scale="full", machine=MACHINE, comparisons=comparisons
    )


def waiting_data(deployment: Deployment) -> list[str]:
    """Return the data of every waiting job, as text."""
    ids = [job_id.decode() for job_id in deployment.redis.lrange("rq:queue:expand", 0, -1)]
    return [deployment.redis.hget(f"rq:job:{job_id}", "data").decode() for job_id in ids]


def at_rest(deployment: Deployment) -> tuple[list[str], int]:
    """Return the ids of all reports that wait, and how many were received, once nothing comes in any more."""
    while True:
        kept = audit.run(deployment.redis).received
        ids = re.findall(r"14466\d{15}", "".join(waiting_data(deployment)))
        if audit.run(deployment.redis).received == kept:
            return ids, kept


@contextmanager
def hanging_server(seconds: float) -> Iterator[TargetUrl]:
    """Serve on a thread: take everything in, answer nothing for a while, then everything."""
    started = time.monotonic()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def serve(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                time.sleep(max(0.0, started + seconds - time.monotonic()))
                connection.sendall(answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield TargetUrl(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
