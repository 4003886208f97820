"""Reading all cells: one that hangs or raises delays and hides no other, and never has two readings at once."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from shared import audit, connections
from shared.cells import parse_cells
from shared.cells_reader import CellsReader

CELLS = parse_cells("north=redis://127.0.0.1:1/0,south=redis://127.0.0.1:1/1")


def open_reader(north: Callable[[], str]) -> CellsReader[str]:
    """Return a reader of two cells; `north` is called for the first, and the second always answers."""
    reads = iter([north, lambda: "south"])
    return CellsReader(CELLS, lambda _: next(reads), timeout_seconds=0.01)


def test_a_cell_that_hangs_is_left_out_and_its_reading_is_not_repeated_while_it_lasts() -> None:
    calls: list[str] = []
    answered = threading.Event()

    def hang() -> str:
        calls.append("north")
        assert answered.wait(60)
        return "north"

    reader = open_reader(hang)
    for _ in range(2):
        north, south = reader.read()
        assert (north.value, north.problem) == (
            None,
            "redis://127.0.0.1:1/0 cannot be used: no answer in 1.01 s",
        )
        assert (south.value, south.problem) == ("south", "")
    assert calls == ["north"]

    answered.set()
    assert [one.value for one in reader.read()] == ["north", "south"]
    reader.close()


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (redis.ConnectionError("the connection broke"), "redis://127.0.0.1:1/0 cannot be used: the connection broke"),
        (audit.TooManyJobs(), str(audit.TooManyJobs())),
        (ValueError("s3cret"), "redis://127.0.0.1:1/0 cannot be read (ValueError): a value in it is damaged"),
    ],
)
def test_whatever_the_reading_of_a_cell_raises_is_its_problem_and_hides_no_other(
    raised: Exception, problem: str
) -> None:
    def fail() -> str:
        raise raised

    north, south = open_reader(fail).read()

    assert (north.value, north.problem) == (None, problem)
    assert south.value == "south"


def test_what_is_unexpected_is_logged_once_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cret"

    def fail() -> str:
        raise ValueError(secret)

    reader = open_reader(fail)
    with caplog.at_level(logging.WARNING):
        reader.read()
        reader.read()

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("action=cell_unreadable cell=north count=1 ")
    assert secret not in line


@pytest.mark.parametrize(("timeout_seconds", "expected"), [(2.0, 2.0), (30.0, connections.CONNECT_TIMEOUT_SECONDS)])
def test_a_sentinel_that_hangs_delays_no_longer_than_a_connection_may_take(
    timeout_seconds: float, expected: float
) -> None:
    client = connections.connect("redis+sentinel://127.0.0.1:1/main/0", timeout_seconds=timeout_seconds)
    pool: Any = client.connection_pool
    (sentinel,) = pool.sentinel_manager.sentinels

    assert sentinel.connection_pool.connection_kwargs["socket_timeout"] == expected
    assert pool.connection_kwargs["socket_timeout"] == timeout_seconds
