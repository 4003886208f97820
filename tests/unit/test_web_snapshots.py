"""What the web processes send of themselves, added up for /metrics."""

import math
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callbacks.distribution import DISTRIBUTION
from ingest.prometheus.families import WebCollector
from ingest.prometheus.snapshots import LIVE_SECONDS, ProcessSnapshot, Snapshots
from shared import refusals, settings
from shared.background import Background
from tests.clock import Clock

NO_PROCESS = 2**22 + 1  # more than Linux's largest


def state(**changes: Any) -> dict[str, Any]:
    return {
        "state": "drained",
        "callbacks": 0,
        "bytes": 0,
        "limit_bytes": 1000,
        "full_in_seconds": None,
        "destination": "redis",
        "durable": True,
        "failing_loops": 0,
        **changes,
    }


def snapshot(process: str, *, pid: int | None = None, ok: int = 0, **changes: Any) -> ProcessSnapshot:
    return ProcessSnapshot(
        process=process, pid=os.getpid() if pid is None else pid, metrics={"responses|200": ok}, state=state(**changes)
    )


def exposed(snapshots: Snapshots, **environ: str) -> dict[tuple[str, ...], float]:
    loaded = settings.load({"REDIS_URL": "redis://127.0.0.1:1/0", "CALLBACKS_TOKENS": "crm=a,crm=b,erp=c", **environ})
    text = WebCollector(snapshots, loaded).exposition().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def snapshots(clock: Clock) -> Iterator[Snapshots]:
    found = Snapshots(Background(), now_seconds=clock)
    yield found
    found.close()


def test_every_series_is_there_before_it_is_counted(snapshots: Snapshots) -> None:
    found = exposed(snapshots)

    for reason in refusals.REASONS.values():
        assert found["callbacks_web_responses_total", str(reason.status)] == 0
        for sender in refusals.SENDERS:
            assert found["callbacks_web_refused_total", str(reason.status), reason.name, sender] == 0
    assert found["callbacks_web_accepted_total", "report", "crm"] == 0
    assert found["callbacks_web_accepted_total", "reply", "erp"] == 0
    assert {name for name, *labels in found if name == "callbacks_web_spool_state" and labels} != set()
    assert found["callbacks_web_workers",] == 0
    assert found["process_start_time_seconds",] > 0
    assert found["callbacks_build_info", platform.python_version(), metadata.version(DISTRIBUTION)] == 1
    assert found["callbacks_web_durability_info", "fsync"] == 1


def test_processes_are_added_up_and_what_ended_ones_counted_stays(snapshots: Snapshots, clock: Clock) -> None:
    snapshots.add(snapshot("a", ok=3))
    snapshots.add(snapshot("b", ok=4, pid=NO_PROCESS))
    snapshots.add(snapshot("b", ok=5, pid=NO_PROCESS))
    assert exposed(snapshots)["callbacks_web_responses_total", "200"] == 8
    assert exposed(snapshots)["callbacks_web_workers",] == 2
    clock.seconds += LIVE_SECONDS + 1
    for ok in (3, 4):
        snapshots.add(snapshot("a", ok=ok))
    found = exposed(snapshots)
    assert found["callbacks_web_responses_total", "200"] == 9
    assert found["callbacks_web_workers",] == 1


def test_a_process_that_ends_sends_its_last_numbers_and_no_state(snapshots: Snapshots) -> None:
    snapshots.add(snapshot("a", ok=3, state="full", destination="none"))
    snapshots.add(ProcessSnapshot(process="a", pid=os.getpid(), metrics={"responses|200": 4}))
    found = exposed(snapshots)
    assert found["callbacks_web_responses_total", "200"] == 4
    assert found["callbacks_web_workers",] == 0
    assert found["callbacks_web_spool_state", "full"] == 0


def test_the_worst_of_all_processes_is_what_counts(snapshots: Snapshots) -> None:
    snapshots.add(snapshot("a", state="filling", destination="spool", callbacks=2, bytes=700, full_in_seconds=90.5))
    snapshots.add(
        snapshot(
            "b", state="filling", destination="spool", callbacks=3, bytes=600, refused=6, refused_left_seconds=413.0
        )
    )
    snapshots.add(
        snapshot("c", durable=False, destination="none", refused=4, refused_left_seconds=20.0, failing_loops=1)
    )
    found = exposed(snapshots, CALLBACKS_SPOOL_MAX_BYTES="2000000")

    assert found["callbacks_web_spool_state", "filling"] == 2
    assert found["callbacks_web_spool_state", "drained"] == 1
    assert found["callbacks_web_destination", "none"] == 1
    assert found["callbacks_web_spool_callbacks",] == 5
    assert found["callbacks_web_spool_bytes",] == 700
    assert found["callbacks_web_spool_limit_bytes",] == 2_000_000
    assert found["callbacks_web_spool_full_in_seconds",] == 90.5
    assert found["callbacks_web_refused_unstored",] == 10
    assert found["callbacks_web_refused_retry_left_seconds",] == 20
    assert found["callbacks_web_redis_durable",] == 0
    assert found["callbacks_web_failing_loops",] == 1


def test_a_spool_that_does_not_grow_and_none_at_all_are_never_full(snapshots: Snapshots) -> None:
    assert exposed(snapshots)["callbacks_web_spool_full_in_seconds",] == math.inf
    snapshots.add(snapshot("a"))
    found = exposed(snapshots, CALLBACKS_SPOOL_DIR="")
    assert found["callbacks_web_spool_full_in_seconds",] == math.inf
    assert found["callbacks_web_spool_limit_bytes",] == 0
    assert found["callbacks_web_refused_retry_left_seconds",] == 0
