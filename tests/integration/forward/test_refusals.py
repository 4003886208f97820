"""Targets that refuse, with real workers: one that refuses everything loses no event, a bad event loses no other."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from tests.integration.forward.refusing_service import Refusing, message_ids
from tests.integration.forward.services import SECRET, Request, deliver_after_pause, says, serving, target
from tests.integration.harness import HandlerTotals, Harness, due_now, statuses
from tests.integration.runtime.pools import Command
from workers.handlers.forward import refusals, targets
from workers.handlers.forward.target_handler import make_handler
from workers.runtime import pause

# Long enough for a pause of 5 seconds and a second one.
REFUSED_SECONDS = 7.0

Start = Callable[..., Harness]


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count refusals that follow each other at once."""
    monkeypatch.setattr(refusals, "MIN_SECONDS", 0.0)


def receive(harness: Harness, *message_ids: str) -> None:
    harness.accept(*statuses(message_ids))
    harness.expand()


def deliver_all_due(harness: Harness, function: Any) -> None:
    """Make all scheduled events and the pause due, and deliver."""
    due_now(harness, function)
    deliver_after_pause(harness, function)


def test_one_event_that_is_refused_among_accepted_ones_becomes_a_dead_letter(
    start: Start,
    no_time: None,
) -> None:
    refusing = Refusing(bad=lambda one: one == "3")
    with serving(refusing.answer()) as service:
        function = make_handler(target(service.url, CONCURRENCY="1"))
        harness = start(function, events=10)
        harness.deliver(function)
        assert harness.totals(function) == HandlerTotals(delivered=9, waiting=1), "one refusal may have any cause"

        for n in range(refusals.MAX_REFUSALS - 1):
            receive(harness, f"later-{n}")
            deliver_all_due(harness, function)

    assert harness.totals(function) == HandlerTotals(delivered=12, dead=1)
    assert [letter["error"].partition(" ")[2] for letter in harness.dead_letters("forward")] == [
        "answered 404: no such thing"
    ]
    assert message_ids(service).count("3") == refusals.MAX_REFUSALS
    assert pause.read_state(harness.connection, "forward") is None
    assert harness.audit().balances


@pytest.mark.parametrize("status", [301, 401, 403, 404, 421])
def test_a_target_that_refuses_everything_loses_no_event_and_gets_one_at_a_time(
    status: int,
    start: Start,
    no_time: None,
) -> None:
    refusing = Refusing(is_down=True, status=status)
    with serving(refusing.answer()) as service:
        function = make_handler(target(service.url))
        harness = start(function, events=100)
        harness.deliver(function)
        requests = len(service.requests)
        assert 32 <= requests <= 36, "those in flight, and four more that replaced failed ones"
        # Those before the fifth failure, and those that began between the fifth failure and the pause.
        assert 4 <= harness.connection.zcard(keys.rq_scheduled("deliver-forward")) <= 8, (
            "the others have lost no attempt"
        )
        for n in range(12):
            deliver_after_pause(harness, function)
            assert len(service.requests) == requests + 1 + n

        assert harness.totals(function) == HandlerTotals(waiting=100)
        found = pause.read_state(harness.connection, "forward")
        assert found is not None
        assert found.reason.endswith(f"answered {status}")

        refusing.is_down = False
        for _ in range(3):
            deliver_all_due(harness, function)

    assert harness.totals(function) == HandlerTotals(delivered=100)
    assert harness.audit().balances


def test_after_a_bad_probe_another_event_becomes_the_probe(
    start: Start,
    no_time: None,
) -> None:
    refusing = Refusing(is_down=True, bad=lambda one: one == "4")
    with serving(refusing.answer()) as service:
        function = make_handler(target(service.url, CONCURRENCY="1"))
        harness = start(function, events=10)
        harness.deliver(function)
        assert message_ids(service) == ["0", "1", "2", "3", "4"], "and the fifth is the probe"

        refusing.is_down = False
        deliver_after_pause(harness, function)
        assert message_ids(service)[5:] == ["4"]
        deliver_after_pause(harness, function)
        assert message_ids(service)[6:] == ["5", "6", "7", "8", "9"]
        for n in range(refusals.MAX_REFUSALS):
            receive(harness, f"later-{n}")
            deliver_all_due(harness, function)

    assert harness.totals(function) == HandlerTotals(delivered=9 + refusals.MAX_REFUSALS, dead=1)


def test_a_target_that_refuses_one_kind_of_event_gets_all_others(start: Start, no_time: None) -> None:
    refusing = Refusing(bad=lambda one: one.startswith("bad"))
    with serving(refusing.answer()) as service:
        function = make_handler(target(service.url))
        harness = start(function, events=0)
        receive(harness, *(f"bad-{n}" for n in range(24)), *(f"good-{n}" for n in range(24)))
        rounds = 0
        while harness.totals(function).dead < 24:
            receive(harness, f"good-later-{rounds}")
            deliver_all_due(harness, function)
            rounds += 1
            assert rounds < 120, harness.totals(function)

    assert harness.totals(function) == HandlerTotals(delivered=24 + rounds, dead=24)
    assert pause.read_state(harness.connection, "forward") is None


def test_a_target_that_is_gone_pauses_its_queue_with_that_reason(start: Start) -> None:
    with serving(says(410, b"moved out")) as service:
        function = make_handler(target(service.url, CONCURRENCY="1"))
        harness = start(function, events=10)
        harness.deliver(function)

        assert len(service.requests) == 1
    found = pause.read_state(harness.connection, "forward")
    assert found is not None
    assert "says that it is gone for good" in found.reason
    assert found.seconds_left > 200
    assert harness.totals(function) == HandlerTotals(waiting=10)
    assert len(harness.waiting_event_ids(function)) == 10


def test_a_thousand_events_all_arrive_at_a_target_that_refuses_everything_at_first(
    start: Start,
    tmp_path: Path,
) -> None:
    refused_until: list[float] = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if not refused_until:
            refused_until.append(time.monotonic() + REFUSED_SECONDS)
        await says(404 if time.monotonic() < refused_until[0] else 200)(request, writer)

    with serving(answer) as service:
        environ = {"URL": service.url, "SECRETS": SECRET, "ALLOW_PRIVATE": "true"}
        environ = {f"CALLBACKS_FORWARD_{name}": value for name, value in environ.items()}
        (function,) = (make_handler(one) for one in targets.read_targets(environ))
        harness = start(function, events=1_000)
        command = Command(harness, tmp_path / "log", "deliver", CALLBACKS_HANDLERS="forward", **environ)
        try:
            deadline = time.monotonic() + REFUSED_SECONDS + 240
            while harness.totals(function).delivered < 1_000:
                assert time.monotonic() < deadline, (harness.totals(function), command.log)
                assert harness.totals(function).dead == 0
                time.sleep(0.5)
                # The events that were refused first are due after 30 seconds: make them due now.
                for job_id in harness.connection.zrange(keys.rq_scheduled("deliver-forward"), 0, -1):
                    harness.connection.zadd(keys.rq_scheduled("deliver-forward"), {job_id: time.time()}, xx=True)
            assert command.stop() == 0
        finally:
            command.end()

    assert harness.totals(function) == HandlerTotals(delivered=1_000)
    assert len(service.requests) - 1_000 < 200, "few requests were wasted"
    assert harness.audit().balances
