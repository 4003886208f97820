"""Every step, not random ones: each command that a process of the service sends to Redis on the journey of a few
callbacks meets each fault once, and every time nothing acknowledged is lost, nothing comes twice, the sum comes out.

How points are counted: an undisturbed run of each stage (see `stages`) counts, on the wire, the commands of the process
that the stage watches, from its very first one until nothing moves any more, a supervisor's and its worker's apart. No
two runs are quite the same, as a waiting process polls Redis, and so a few points at the end of a stage are
never reached by the run that was to be spoiled there: these are counted, and must stay few.

`make chaos` tries all points; without CHAOS_SECONDS it is every 47th, and CHAOS_SEED says with which to begin.
"""

import json
import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import forkserver
from tests.chaos.proxy import FAULTS, Plan, Proxy
from tests.chaos.reconciliation import reconcile
from tests.chaos.scenario import Scenario
from tests.chaos.stages import Stage, stages
from tests.redis_server import RedisServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the proxy finds out by /proc whose a connection is")

_SCENARIOS: Final = 4
# In short: every 47th; each fault gets its share, as 47 is not a multiple of 3.
_STRIDE: Final = 47
# Module, name, seconds instead of more. None of them decides what is kept or requeued, only when.
_SHORTER_WAITS: Final = (
    ("ingest.spool.drainer", "TICK_SECONDS", 0.02),
    ("ingest.spool.drainer", "PAUSE_SECONDS", 0.1),
    ("ingest.durability_gate", "RECHECK_SECONDS", 0.05),
    ("workers.runtime.maintenance", "_CHECK_SECONDS", 0.25),
    ("workers.runtime.worker", "_RETRY_SECONDS", 0.05),
    ("workers.runtime.redis_retry", "_RETRY_SECONDS", 0.05),
    ("workers.runtime.supervisor", "_TICK_SECONDS", 0.02),
)
_LOG_CHARACTERS: Final = 2000
_NOT_REACHED: Final = "not reached"
_BROKEN_OFF: Final = "broken off"
# The points of a stage's end; more would mean that the runs are not those that were counted.
_SHARE_NOT_REACHED: Final = 0.1


@dataclass(frozen=True)
class Point:
    """A stage, and what is to happen in it."""

    stage: Stage
    plan: Plan

    def __str__(self) -> str:
        return f"{self.stage.name}: {self.plan.fault} at command {self.plan.at} of the {self.plan.role}"


@pytest.fixture
def scenarios(tmp_path: Path, start_redis: Callable[..., RedisServer]) -> Iterator[list[Scenario]]:
    """Yield several services that know nothing of each other: most of a run is waiting."""
    with ExitStack() as stack:
        made = []
        for number in range(_SCENARIOS):
            folder = tmp_path / f"scenario-{number}"
            folder.mkdir()
            server = start_redis({"appendonly": "yes", "appendfsync": "always"})
            forks = stack.enter_context(
                forkserver.running(preload=["tests.chaos.recorder"], shorter_waits=_SHORTER_WAITS, fork_children=True)
            )
            proxy = stack.enter_context(Proxy(server.port, forks.processes))
            scenario = Scenario(server, proxy, forks, folder)
            stack.callback(scenario.close)
            made.append(scenario)
        yield made


def test_a_fault_at_any_command_loses_nothing_and_doubles_nothing(
    scenarios: list[Scenario], chaos_seed: int, record_property: Callable[[str, object], None]
) -> None:
    counted = {stage: _count(scenarios[0], stage) for stage in stages(scenarios[0])}
    points = [
        Point(stage, Plan(role, at, fault))
        for stage, counts in counted.items()
        for role, most in sorted(counts.items())
        for at in range(1, most + 1)
        for fault in FAULTS
    ]
    tried = points if "CHAOS_SECONDS" in os.environ else points[chaos_seed % _STRIDE :: _STRIDE]

    book = _try_all(scenarios, tried)

    totals = {
        "commands": {stage.name: dict(counts) for stage, counts in counted.items()},
        "points": len(points),
        **book.totals,
        "wrong": len(book.wrong),
    }
    sys.stdout.write(json.dumps(totals) + "\n")
    for name, value in totals.items():
        record_property(name, value)
    assert all(counts for counts in counted.values())
    assert not book.wrong, "\n".join(book.wrong)
    met = {fault: book.totals[fault] for fault in FAULTS}
    assert all(met.values()), "a fault that no run has met"
    assert sum(met.values()) + book.totals[_NOT_REACHED] + book.totals[_BROKEN_OFF] == len(tried)
    assert book.totals[_NOT_REACHED] <= len(tried) * _SHARE_NOT_REACHED


class _Book:
    """What became of the points that were tried. Several threads may write into it."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def add(self, *wrong: str, **totals: int) -> None:
        """Take note of one point: what is wrong with it, and what it counts as."""
        with self._lock:
            self.totals.update(totals)
            self.wrong.extend(wrong)


def _count(scenario: Scenario, stage: Stage) -> Counter[str]:
    """Go through a stage undisturbed; give the commands of each role."""
    scenario.begin(stage.begins_with)
    stage.drive(scenario)
    scenario.rest()
    counts = Counter(scenario.passage.counts)
    found = reconcile(scenario, stage)
    assert not found.wrong, (stage.name, found.wrong, scenario.log)
    return counts


def _try_all(scenarios: list[Scenario], points: Sequence[Point]) -> _Book:
    book = _Book()
    waiting: queue.SimpleQueue[Point] = queue.SimpleQueue()
    for point in points:
        waiting.put(point)

    def work(scenario: Scenario) -> None:
        while not waiting.empty():
            try:
                point = waiting.get_nowait()
            except queue.Empty:
                return
            _try(scenario, point, book)
        scenario.end()

    threads = [threading.Thread(target=work, args=(scenario,)) for scenario in scenarios]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return book


def _try(scenario: Scenario, point: Point, book: _Book) -> None:
    try:
        scenario.begin(point.stage.begins_with, plan=point.plan)
        point.stage.drive(scenario)
        scenario.rest()
        found = reconcile(scenario, point.stage)
    except Exception as exc:  # noqa: BLE001 # one point that goes wrong says nothing of the others
        book.add(f"{point}: {type(exc).__name__}: {exc}\n{scenario.log[-_LOG_CHARACTERS:]}", **{_BROKEN_OFF: 1})
        return
    wrong = ["\n".join([str(point), *found.wrong, scenario.log[-_LOG_CHARACTERS:]])] if found.wrong else []
    book.add(
        *wrong,
        **{
            point.plan.fault if scenario.passage.met else _NOT_REACHED: 1,
            "in hands when killed": found.interrupted,
            "last event of a killed process repeated": found.repeated,
        },
    )
