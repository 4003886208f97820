"""Every background loop of every process outlives what nobody foresaw, says so, and works again after it (I10)."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from shared import audit, connections, failing_loops
from tests import background_faults
from tests.acceptance.processes import WAIT_SECONDS, Running, get, run, started
from tests.background_faults import Breaker
from tests.redis_server import RedisServer, free_port

TOKEN: Final = "tok-background-loops"
# The command `handlers drain` has the first, and a supervisor of the built-in handlers that store events the second.
_ELSEWHERE: Final = {"maintenance_drain", "retention"}
_WEB: Final = {"durability", "drain", "group_commit"}
# Each task of maintenance begins, what fails is pushed, and it is healthy again, sooner than in the service.
_SHORTER_WAITS: Final = (
    ("workers.runtime.maintenance", "_GRACE_SECONDS", 1.0),
    ("workers.runtime.maintenance", "_EXPIRE_SECONDS", 1.0),
    ("workers.runtime.portions", "_CHECK_SECONDS", 1.0),
    ("shared.background", "HEALTHY_AFTER_SECONDS", 3.0),
    ("shared.metrics_push", "PUSH_SECONDS", 0.5),
)
_HANDLERS: Final = """
import logging
import warnings

from callbacks import ReportEvent, handler

@handler(ReportEvent)
def ledger(event):
    warnings.warn("an old\\nfunction")
    logging.getLogger("ledger").info("booked\\n%s", event.status, extra={"book": 7})
"""


class Service:
    """The four processes over one Redis, their loops in the hands of `breaker`."""

    def __init__(self, redis: RedisServer, breaker: Breaker, folder: Path) -> None:
        self.redis = redis
        self.breaker = breaker
        web_port, ops_port = free_port(), free_port()
        self.web_url, self.ops_url = f"http://127.0.0.1:{web_port}", f"http://127.0.0.1:{ops_port}"
        (folder / "shop_handlers.py").write_text(_HANDLERS)
        self.environment = {
            "REDIS_URL": redis.url,
            "PORT": str(web_port),
            "CALLBACKS_OPS_PORT": str(ops_port),
            "CALLBACKS_METRICS_PORT": str(free_port()),
            "CALLBACKS_TOKENS": f"main={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
            "CALLBACKS_HANDLERS": "shop_handlers",
            "CALLBACKS_SPOOL_DIR": str(folder / "spool"),
            "CALLBACKS_RUN_DIR": str(folder / "run"),
            # Nothing listens there.
            "CALLBACKS_LOG_FORMAT": "json",
            "CALLBACKS_NOTIFY": f"json://127.0.0.1:{free_port()}/",
            **breaker.environment,
        }
        self.environment["PYTHONPATH"] += os.pathsep + str(folder)
        self.processes: list[Running] = []

    @property
    def log(self) -> str:
        return "".join(process.output for process in self.processes)

    def lines(self) -> list[dict[str, Any]]:
        """Return what the processes printed, each line of which is JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def has_logged(self, **fields: Any) -> bool:
        return any(fields.items() <= line.items() for line in self.lines())

    def post(self, number: int) -> int:
        """Post a report; return the status of the answer. One that never comes is an error."""
        body = b'{"data":[{"message_id":"%d","status":"DELIVRD","type":"SMS","to":"35699000001"}]}' % number
        url = f"{self.web_url}/callbacks/{TOKEN}/status"
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code

    def checks(self) -> dict[str, Any]:
        _, document = get(f"{self.web_url}/readyz")
        found: dict[str, Any] = (document or {}).get("checks", {})
        return found

    def is_ready(self) -> bool:
        return all(get(f"{url}/readyz")[0] == 200 for url in (self.web_url, self.ops_url))

    def watch_live_events(self) -> None:
        with urllib.request.urlopen(f"{self.ops_url}/live", timeout=60) as answer:
            assert answer.status == 200

    def failing(self) -> set[str]:
        """Return the loops of all processes that keep failing, as they told Redis."""
        with connections.connect(self.redis.url) as client:
            return {one.loop for one in failing_loops.list_failing_loops(client)}

    def delivered(self) -> int:
        with connections.connect(self.redis.url) as client:
            return sum(one.delivered for one in audit.run(client).handlers)

    def kill_a_worker(self) -> None:
        pid = self.processes[-1].process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)

    def until(self, true: Any, what: str) -> None:
        deadline = time.monotonic() + 2 * WAIT_SECONDS
        while not true():
            assert all(process.process.poll() is None for process in self.processes), f"before {what}:\n{self.log}"
            assert time.monotonic() < deadline, f"{what} did not happen:\n{self.log}"
            time.sleep(0.1)


@pytest.fixture
def breaker(tmp_path: Path) -> Breaker:
    return Breaker(tmp_path / "breaker")


@pytest.fixture
def service(breaker: Breaker, redis_server: RedisServer, tmp_path: Path) -> Iterator[Service]:
    """Start all processes; what the test has broken before is broken from their first moment on."""
    folder = tmp_path / "service"
    folder.mkdir()
    made = Service(redis_server, breaker, folder)
    # Without the push nobody hears of the others, and maintenance as a whole is what begins its tasks.
    breaker.break_always(*background_faults.names() - {"metrics_push", "maintenance"})
    with started(folder, made.environment, shorter_waits=_SHORTER_WAITS) as start:
        # The messages of `sql` are counted where it is a handler; here no worker needs it.
        ops = start("ops", CALLBACKS_HANDLERS="shop_handlers,sql")
        made.processes += [start("web"), ops, start("worker", "expand"), start("worker", "deliver")]
        made.until(lambda: all(get(f"{url}/livez")[0] == 200 for url in (made.web_url, made.ops_url)), "the servers")
        yield made


def test_every_loop_of_every_process_fails_for_long_is_named_and_then_works_again(service: Service) -> None:
    service.watch_live_events()
    service.until(lambda: service.has_logged(action="worker_started", queue="deliver-ledger"), "a worker")
    service.kill_a_worker()
    loops = background_faults.names() - _ELSEWHERE

    # The processes stay, and each loop is named where it is looked for.
    service.until(lambda: service.breaker.seen() >= loops, f"all of {loops}")
    service.until(lambda: service.checks().keys() >= _WEB, "the web process names its loops")
    assert all(service.checks()[loop]["ok"] is False for loop in _WEB)
    assert service.checks()["drain"]["detail"] == "keeps failing: RuntimeError"
    loops_of_ops = ("live_events", "notices", "notice_delivery", "overdue", "backlog_history")
    of_ops = dict.fromkeys(loops_of_ops, "RuntimeError")
    service.until(lambda: get(f"{service.ops_url}/readyz")[1]["checks"] == of_ops, "the page's")
    assert service.post(1) in (200, 503), "nobody waits for an answer that does not come"
    maintenance = {loop for loop in loops if loop.startswith("maintenance_")}
    service.until(lambda: service.failing() >= maintenance | _WEB - {"durability"}, f"{maintenance} in Redis")
    checked = run("check", cwd=Path.cwd(), environment=service.environment)
    assert checked.returncode == 1
    assert "maintenance trimming keeps failing (RuntimeError)" in checked.stdout

    service.breaker.break_always("maintenance")
    service.until(lambda: "maintenance" in service.failing(), "maintenance as a whole")
    service.breaker.break_always("metrics_push")
    service.until(lambda: "metrics_push" in service.checks(), "the web process names that one too")
    service.breaker.repair()

    # And all of it works again.
    service.until(service.is_ready, "readiness")
    assert service.post(2) == 200
    service.until(lambda: service.delivered() >= 1, "the event at its handler")
    service.until(lambda: service.failing() == set(), "nothing fails")
    for loop in loops:
        assert service.has_logged(action="loop_failed", loop=loop, count=1, error="RuntimeError"), loop
    assert background_faults.MESSAGE not in service.log
    assert [process.stop() for process in service.processes] == [0, 0, 0, 0]
    assert_each_line_says_what_happened(service)


def assert_each_line_says_what_happened(service: Service) -> None:
    """From the first line to the last, of each process, its libraries and its handler."""
    assert all(process.output for process in service.processes)
    for line in service.lines():
        assert {"time", "level", "logger", "process"} <= line.keys()
        assert ("action" in line) != ("message" in line)
    assert service.has_logged(action="listening", what="callbacks", url=service.web_url)
    assert service.has_logged(action="listening", what="operators' page", url=f"{service.ops_url}/")
    booked = [line for line in service.lines() if line["logger"] == "ledger"]
    assert {(line["level"], line["message"], line["book"]) for line in booked} == {("info", "booked\nDELIVRD", 7)}
    assert all(line["handler"] == "ledger" and line["event"] for line in booked)
    assert any(line["logger"] == "py.warnings" and "an old\nfunction" in line["message"] for line in service.lines())


def test_a_loop_of_the_web_process_that_fails_once_costs_no_callback(service: Service) -> None:
    service.breaker.repair()
    service.until(service.is_ready, "readiness")
    loops = (*sorted(_WEB), "metrics_push")
    for number, loop in enumerate(loops):
        service.breaker.break_once(loop)
        service.until(lambda loop=loop: not service.breaker.is_broken(loop), f"{loop} is struck")
        service.until(lambda number=number: service.post(number) == 200, f"a callback after {loop}")

    service.until(lambda: service.delivered() == len(loops), "each event at its handler")
    service.until(service.is_ready, "readiness")
