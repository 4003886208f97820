"""Portions of jobs that somebody deleted are deleted too, and no others."""

from pathlib import Path

import pytest

from shared import keys
from tests.integration.harness import HandlerTotals, Harness
from tests.integration.portions.sharing_handlers import accept_and_expand, both, first, portions, second
from tests.integration.runtime.pools import Command, until
from workers.runtime.portions import PortionReaper


def test_a_portion_whose_number_was_deleted_stays_and_is_counted_anew(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    before = portions(harness)
    harness.connection.delete(keys.PORTION_JOBS)

    harness.deliver(first)

    assert harness.connection.hlen(keys.PORTIONS) == 1
    PortionReaper(harness.connection).tick()
    assert portions(harness) == dict.fromkeys(before, 1)
    harness.deliver(second)
    assert harness.totals(second) == HandlerTotals(delivered=2)
    assert harness.leftover_keys() == set()


def test_portions_of_jobs_that_somebody_deleted_are_reaped_and_no_others(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    reaper = PortionReaper(harness.connection)
    for n in range(3):
        accept_and_expand(harness, str(n))
    before = portions(harness)
    (of_h0, *_), (of_h5, *_) = harness.waiting_jobs("deliver-h0"), harness.waiting_jobs("deliver-h5")
    harness.connection.delete(keys.job(of_h0))

    reaper.tick()

    assert sorted(portions(harness).values()) == [1, 2, 2]
    harness.connection.delete(keys.job(of_h5))
    reaper.tick()
    assert sorted(portions(harness).values()) == [2, 2]
    assert portions(harness).keys() < before.keys()
    assert "action=portions_reaped portions=1" in caplog.text
    for function in both:
        harness.deliver(function)
        assert harness.totals(function).delivered == 2
    assert not portions(harness)


def test_a_reaper_that_found_some_goes_on_soon(harness: Harness) -> None:
    # No job of ours has these, as after `rq empty` of a long queue.
    for key in (keys.PORTIONS, keys.PORTION_JOBS):
        harness.connection.hset(key, mapping={f"{number:032x}-1-1": 1 for number in range(600)})
    reaper = PortionReaper(harness.connection)

    ticks = 0
    while portions(harness):
        until(lambda: reaper.is_due, "the next tick")
        reaper.tick()
        ticks += 1
        assert ticks < 100

    assert not harness.connection.exists(keys.PORTION_JOBS)


def test_a_running_service_reaps_them_by_itself(harness: Harness, tmp_path: Path) -> None:
    accept_and_expand(harness, "1")
    for name in ("h0", "h5"):
        harness.connection.delete(
            keys.rq_queue(f"deliver-{name}"), keys.job(harness.waiting_jobs(f"deliver-{name}")[0])
        )
    assert portions(harness)

    command = Command(harness, tmp_path / "log", "deliver", "--handler", "single")
    try:
        until(lambda: "action=portions_reaped portions=1" in command.log, "the portion is deleted")
    finally:
        command.end()
    assert not portions(harness)


def test_a_reaper_passes_by_names_that_this_release_does_not_give(harness: Harness) -> None:
    names = ("of tomorrow", "ab-99999999999-1", "-1-1")
    for key in (keys.PORTIONS, keys.PORTION_JOBS):
        harness.connection.hset(key, mapping=dict.fromkeys(names, 1))

    PortionReaper(harness.connection).tick()

    assert portions(harness) == {name.encode(): 1 for name in names}
