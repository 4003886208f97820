"""Several cells on *Now*, /metrics, /audit and in `callbacks top`: one that cannot be read hides no other."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from callbacks import Reject, ReportEvent, handler
from callbacks.cli.main import main
from callbacks.ops.app import create_app
from callbacks.ops.status import quantities
from shared import keys, settings
from tests.integration.harness import open_harness, record, status
from tests.redis_server import RedisServer, free_port


@handler(ReportEvent)
def choosy(event: ReportEvent) -> None:
    if event.recipient == "rejected":
        raise Reject("no")


@pytest.fixture
def cells(redis_server: RedisServer) -> Iterator[str]:
    """Fill two cells, two databases of one server; yield the value that names them and a third that is not there."""
    base = redis_server.url.removesuffix("0")
    with open_harness(f"{base}0", choosy) as north, open_harness(f"{base}1", choosy) as south:
        north.accept(status(record("1"), record("2")))
        north.expand()
        south.accept(status(record("3", to="rejected"), record("4")))
        south.expand()
        south.deliver(choosy)
        yield f"north={base}0,south={base}1,west=redis://:s3cret@127.0.0.1:{free_port()}/0"


def ops(path: str, **environ: str) -> httpx.Response:
    """Return what `callbacks ops` answers with these settings."""

    async def get() -> httpx.Response:
        app = create_app(settings.load(environ, process="ops", needs=("REDIS_URL",)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(get())


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_now_has_a_line_for_each_cell_before_what_it_says_of_its_own(cells: str) -> None:
    page = ops("/", CALLBACKS_CELLS=cells).text

    table, _, own = page.partition('id="summary"')
    north, south, west = table.split('<th scope="row">')[1:]
    assert north.startswith("north<br>")
    assert ("problems" in north, ">2<" in north) == (True, True)
    assert "no worker" not in north, "its alerts are below"
    assert ("No worker" in south, ">1<" in south) == (True, True)
    assert ("unavailable" in west, "cannot connect to 127.0.0.1" in west) == (True, True)
    assert "All else on these pages is of cell north." in table
    assert "choosy" in own
    assert "<title>Now: 3 of 3 cells need action now ·" in page
    assert "s3cret" not in page


def test_a_cell_that_is_its_own_and_unavailable_hides_no_other(cells: str) -> None:
    west = cells.rpartition("west=")[2]
    page = ops("/", CALLBACKS_CELLS=cells, REDIS_URL=west)

    assert page.status_code == 200
    assert "All else on these pages is of cell west." in page.text
    assert page.text.count('<th scope="row">') == 3
    assert "Redis" in page.text.partition('id="cells"')[2].partition("</section>")[2]


def test_the_pages_may_be_of_a_redis_that_is_no_cell(cells: str, redis_server: RedisServer) -> None:
    page = ops("/", CALLBACKS_CELLS=cells, REDIS_URL=f"{redis_server.url.removesuffix('0')}2").text

    assert f"All else on these pages is of redis://127.0.0.1:{redis_server.port}/2." in page


def test_the_metrics_of_each_cell_have_its_name(cells: str) -> None:
    text = ops("/metrics", CALLBACKS_CELLS=cells).text

    found = samples(text)
    assert found["callbacks_redis_up"] == {("north",): 1, ("south",): 1, ("west",): 0}
    assert found["callbacks_audit_difference"] == {("north",): 0, ("south",): 0}
    assert found["callbacks_dead_letters"] == {("north", "choosy"): 0, ("south", "choosy"): 1}
    received = found["callbacks_records_received_total"]
    assert {labels: value for labels, value in received.items() if "report" in labels} == {
        ("north", "report"): 2,
        ("south", "report"): 2,
    }
    assert text.count("# TYPE callbacks_redis_up gauge") == 1


def test_without_cells_the_metrics_have_no_such_label(cells: str, redis_server: RedisServer) -> None:
    text = ops("/metrics", REDIS_URL=redis_server.url).text

    assert "callbacks_redis_up 1.0\n" in text
    assert "cell=" not in text


def test_the_audit_is_that_of_all_cells(cells: str) -> None:
    part = ops("/audit", CALLBACKS_CELLS=cells)
    whole = ops("/audit", CALLBACKS_CELLS=cells.rpartition(",")[0])

    assert (part.status_code, part.json()["unavailable"], part.json()["balances"]) == (503, ["west"], False)
    assert (whole.status_code, whole.json()["balances"]) == (200, True)
    assert part.json()["records"] == whole.json()["records"]
    assert whole.json()["records"]["report"]["received"] == 4


def top(value: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["top", *options], env={"CALLBACKS_CELLS": value, "COLUMNS": "160"})


def test_top_prints_a_line_for_each_cell_and_what_needs_attention(cells: str) -> None:
    ended = top(cells, "--once")

    lines = [line.split() for line in ended.output.splitlines()]
    assert lines[2] == ["north", "problems", "0.0", "2", "0", "0", "balances"]
    assert lines[3] == ["south", "problems", "0.0", "0", "1", "0", "balances"]
    assert lines[4] == ["west", "unavailable", *[quantities.UNKNOWN] * 4, "unknown"]
    assert "south: " in ended.output
    assert "west: redis://127.0.0.1" in ended.output
    assert "s3cret" not in ended.output
    assert ended.exit_code == 1
    assert top(cells.rpartition(",")[0], "--once").exit_code == 0


def test_top_as_json_has_the_status_of_each_cell(cells: str, redis_server: RedisServer) -> None:
    found: Any = json.loads(top(cells, "--json").output)
    alone = CliRunner().invoke(main, ["top", "--json"], env={"REDIS_URL": redis_server.url})

    assert found["unavailable"] == ["west"]
    north, south, west = found["cells"]
    assert north.keys() == {"cell", "redis_url", *json.loads(alone.output)}
    assert (north["cell"], north["handlers"][0]["waiting"]) == ("north", 2)
    assert (south["cell"], south["handlers"][0]["dead"]) == ("south", 1)
    assert west.keys() == {"cell", "redis_url", "error"}


def test_top_shows_all_of_a_cell_that_is_named(cells: str) -> None:
    ended = top(cells, "--once", "--cell", "south")

    assert ended.exit_code == 0
    assert "handler (events)" in ended.output
    assert "audit         balances" in ended.output
    wrong = top(cells, "--once", "--cell", "east")
    assert wrong.exit_code == 2
    assert "'east' is not one of CALLBACKS_CELLS: north, south, west." in wrong.output


def test_a_cell_that_does_not_balance_is_a_problem(cells: str, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.hincrby(keys.COUNTS, keys.counter("report", "received"), 3)

    assert "3 unaccounted" in ops("/", CALLBACKS_CELLS=cells).text
    assert "3 unaccounted" in top(cells, "--once").output


@pytest.mark.parametrize(
    ("key", "field"), [(keys.COUNTS, "report.unique"), (keys.COUNTS, b"\xff"), (keys.METRICS, "x")]
)
def test_a_damaged_value_of_a_cell_hides_no_other(
    cells: str, redis_server: RedisServer, key: str, field: str | bytes
) -> None:
    with redis_server.client() as north:
        north.hset(key, field, "abc")

    page = ops("/", CALLBACKS_CELLS=cells)
    assert page.status_code == 200
    table, _, own = page.text.partition('id="summary"')
    north_row, south_row, _ = table.split('<th scope="row">')[1:]
    assert ("problems" in north_row, "unavailable" in north_row) == (True, False)
    assert "No worker" in south_row
    assert f"A value of {key} in Redis is damaged" in own
    metrics = samples(ops("/metrics", CALLBACKS_CELLS=cells).text)
    assert metrics["callbacks_redis_up"] == {("north",): 1, ("south",): 1, ("west",): 0}
    assert metrics["callbacks_damaged_values"] == {("north",): 1, ("south",): 0}
    shown = top(cells, "--once")
    assert ("south: " in shown.output, shown.exit_code) == (True, 1)
    if key == keys.COUNTS:  # the audit reads no other
        audit = ops("/audit", CALLBACKS_CELLS=cells)
        assert (audit.status_code, audit.json()["unavailable"]) == (503, ["north", "west"])
        assert audit.json()["records"]["report"]["received"] == 2
