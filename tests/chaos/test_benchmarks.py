"""The commands behind docs/performance.md run, on a tiny scale.

`make chaos` runs them all; without CHAOS_SECONDS it is one of them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import goals, table, throughput_of_handlers
from benchmarks.deployment import REPOSITORY
from benchmarks.measurements import OURS
from tests import postgres_server
from tests.redis_server import require

WHOLE = "CHAOS_SECONDS" in os.environ
ALL = (
    *("cost", "acknowledge", "drain", "end_to_end", "memory", "idle", "forward", "throughput_of_handlers", "growth"),
    *("cells", "forget"),
)
TABLES = ALL if WHOLE else ("drain", "forget")
whole = pytest.mark.skipif(not WHOLE, reason="a minute of processor time: `make chaos` runs it")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """Make every table at the same time, as nobody asks how fast it is here; give the folder, exit codes and output."""
    require()
    if shutil.which("wrk") is None:
        pytest.skip("there is no wrk on the PATH")
    folder = tmp_path_factory.mktemp("benchmarks")
    outputs = {name: (folder / f"{name}.log").open("wb") for name in TABLES}
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{name}", "--scale", "tiny", "--no-peers", "--save", folder / "results"],
            cwd=REPOSITORY,
            stdout=output,
            stderr=output,
        )
        for name, output in outputs.items()
    }
    try:
        codes = {name: process.wait(240) for name, process in running.items()}
    finally:
        for process in running.values():
            process.terminate()  # those that are done do not hear it
            process.wait(60)
        for output in outputs.values():
            output.close()
    return folder / "results", {name: (code, (folder / f"{name}.log").read_text()) for name, code in codes.items()}


@pytest.mark.parametrize("name", TABLES)
def test_each_command_measures_and_saves_its_measurements(
    made: tuple[Path, dict[str, tuple[int, str]]], name: str
) -> None:
    folder, ended = made

    assert ended[name][0] == 0, ended[name][1]
    results = table.read(folder)[name]
    assert results.comparisons
    for comparison in results.comparisons:
        assert comparison.series, comparison.name
        for series in comparison.series:
            assert len(series.samples) == 1, "the tiny scale has one repetition"
            assert all(isinstance(value, float | int) for value in series.samples[0].values())
    assert results.machine.fsync_p50_ms > 0
    assert results.machine.disk not in {"tmpfs", "ramfs"}


@whole
def test_every_goal_finds_its_measurements_in_what_the_commands_save(
    made: tuple[Path, dict[str, tuple[int, str]]],
) -> None:
    """But those that want peers, another scale, or what the tiny one leaves out."""
    unmeasured = {
        goal.number: [result.text for result in results].count("not measured")
        for goal, results in goals.evaluate_goals(table.read(made[0]))
    }

    assert unmeasured == {
        "C1": 1,  # Fastify + BullMQ
        "C2": 0,
        "C3": 0,
        "C4": 2,  # twelve handlers
        "C5": 0,
        "P1": 2,  # Fastify + BullMQ, naive RQ
        "P2": 1,  # Fastify + BullMQ
        "P3": 0,
        "P4": 0,
        "P5": 1,  # SimpleWorker
        "P6": 1,  # BullMQ
        "P7": 2,  # 3,000 callbacks/s
        "P8": 0,
        "P9": 0,
        "P10": 1,  # larger numbers
        "P11": 0,
        "P12": 4,  # one point makes no course
        "P13": 0 if postgres_server.binaries() else 1,
    }


def test_the_table_shows_each_goal_and_says_what_is_no_measurement(
    made: tuple[Path, dict[str, tuple[int, str]]],
) -> None:
    command = [sys.executable, "-m", "benchmarks.table", "--results", str(made[0])]
    text = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout

    assert text.startswith("| | cost")
    assert [line.split(" | ")[0] for line in text.splitlines() if re.match(r"\| [CP]\d", line)] == [
        *(f"| C{number}" for number in range(1, 6)),
        *(f"| P{number}" for number in range(1, 14)),
    ]
    assert f"Not of full size, so no measurement: {', '.join(sorted(TABLES))}." in text


@whole
def test_each_handler_and_each_loop_receives_every_event(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.throughput_of_handlers", "--scale", "tiny", "--save", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=240)

    results = json.loads((tmp_path / "throughput_of_handlers.json").read_bytes())
    expected = {name: [OURS, loop] for name, loop in throughput_of_handlers.LOOPS.items()}
    if postgres_server.binaries() is None:
        del expected["sql, PostgreSQL"]
    found = {one["name"]: [series["name"] for series in one["series"]] for one in results["comparisons"]}
    assert found == expected
    assert all(
        sample[throughput_of_handlers.RATE] > 0
        for one in results["comparisons"]
        for series in one["series"]
        for sample in series["samples"]
    )
