"""`callbacks audit` with CALLBACKS_CELLS: each cell, their sum, and a cell that cannot be read."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from callbacks import ReportEvent, handler
from callbacks.cli.main import main
from shared import keys
from tests.integration.harness import Harness, open_harness, record, status
from tests.redis_server import RedisServer, free_port


@handler(ReportEvent)
def taker(event: ReportEvent) -> None: ...


@handler(ReportEvent)
def other(event: ReportEvent) -> None: ...


@pytest.fixture
def cells(redis_server: RedisServer) -> Iterator[tuple[Harness, Harness]]:
    """Yield two cells: two databases of one server are as separate as two servers."""
    base = redis_server.url.removesuffix("0")
    with open_harness(f"{base}0", taker) as one, open_harness(f"{base}1", taker, other) as two:
        yield one, two


def audit(value: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["audit", *options], env={"CALLBACKS_CELLS": value})


def value_of(server: RedisServer, extra: str = "") -> str:
    base = server.url.removesuffix("0")
    return f"north={base}0,south={base}1{extra}"


def fill(cells: tuple[Harness, Harness]) -> None:
    one, two = cells
    one.accept(status(record("1"), record("2"), record("1")))
    one.expand()
    one.deliver(taker)
    two.accept(status(record("3")))
    two.expand()
    two.accept(status(record("4")))


def test_it_prints_each_cell_and_then_their_sum(cells: tuple[Harness, Harness], redis_server: RedisServer) -> None:
    fill(cells)

    ended = audit(value_of(redis_server))

    assert ended.exit_code == 0, ended.output
    north, south, total = ended.output.split("\n\n")
    assert north.startswith(f"cell north, {redis_server.url}:\n           3  received\n           2  new")
    assert south.startswith("cell south, ")
    assert "           2  received" in south
    assert north.splitlines()[-1] == south.splitlines()[-1] == "It balances."
    assert total.splitlines()[:3] == ["2 cells together:", "           5  received", "           3  new: events"]
    assert total.splitlines()[-1] == "It balances, in each cell."


def test_as_json_the_sum_is_written_as_the_audit_of_one_redis(
    cells: tuple[Harness, Harness], redis_server: RedisServer
) -> None:
    fill(cells)

    sums = json.loads(audit(value_of(redis_server), "--json").output)
    alone = json.loads(CliRunner().invoke(main, ["audit", "--json"], env={"REDIS_URL": redis_server.url}).output)

    assert alone.keys() == sums.keys() - {"cells", "unavailable"}
    assert (sums["balances"], sums["missing"], sums["pending"], sums["waiting"]) == (True, 0, 3, 1)
    assert sums["records"]["report"] == {
        "received": 5,
        "unique": 3,
        "duplicate": 1,
        "quarantined": 0,
        "dropped": 0,
        "forgotten": 0,
    }
    assert {at["handler"]: (at["queued"], at["delivered"], at["waiting"]) for at in sums["handlers"]} == {
        "taker": (3, 2, 1),
        "other": (1, 0, 1),
    }
    assert sums["unavailable"] == []
    north, south = sums["cells"]
    assert (north["cell"], south["cell"]) == ("north", "south")
    assert north == {"cell": "north", "redis_url": redis_server.url, **alone}


def test_what_one_cell_has_too_much_does_not_make_up_for_what_another_lost(
    cells: tuple[Harness, Harness], redis_server: RedisServer
) -> None:
    for cell, by in zip(cells, (1, -1), strict=True):
        cell.connection.hincrby(keys.COUNTS, keys.counter("report", "received"), by)

    ended = audit(value_of(redis_server))
    sums = json.loads(audit(value_of(redis_server), "--json").output)

    assert ended.exit_code == 1
    assert ended.output.endswith("It does not balance in north, south.\n")
    assert (sums["balances"], sums["missing"]) == (False, 0)


def test_a_cell_that_cannot_be_read_is_named_and_hides_no_other(
    cells: tuple[Harness, Harness], redis_server: RedisServer
) -> None:
    fill(cells)
    port = free_port()
    value = value_of(redis_server, f",west=redis://:s3cret@127.0.0.1:{port}/0")

    ended = audit(value)
    as_json = audit(value, "--json")

    assert (ended.exit_code, as_json.exit_code) == (1, 1)
    assert f"cell west, redis://127.0.0.1:{port}/0:\nunavailable: redis://127.0.0.1:{port}/0 " in ended.output
    assert "2 of 3 cells together:\n           5  received" in ended.output
    assert ended.output.endswith("Unavailable, and not in the sum: west.\n")
    sums = json.loads(as_json.output)
    assert (sums["balances"], sums["unavailable"], sums["records"]["report"]["received"]) == (False, ["west"], 5)
    assert sums["cells"][2].keys() == {"cell", "redis_url", "error"}
    assert "s3cret" not in ended.output + as_json.output


def test_without_cells_it_is_the_audit_of_redis_url(cells: tuple[Harness, Harness], redis_server: RedisServer) -> None:
    fill(cells)

    ended = CliRunner().invoke(main, ["audit"], env={"REDIS_URL": redis_server.url, "CALLBACKS_CELLS": ""})

    assert ended.output.startswith("           3  received\n")
    assert ended.output.endswith("It balances.\n")
