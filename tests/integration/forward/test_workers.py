"""Forwarding with real workers: targets that fail next to targets that work, and what becomes of their events."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from callbacks import Event
from shared import keys, queues
from tests.integration.forward.services import (
    SECRET,
    Answer,
    Request,
    Service,
    deliver_after_pause,
    says,
    serving,
    target,
)
from tests.integration.harness import HandlerTotals, Harness, due_now
from tests.integration.runtime.pools import Command, until
from tests.redis_server import free_port
from workers.handlers.forward import targets
from workers.handlers.forward.target_handler import make_handler
from workers.runtime import pause

Function = Callable[[Event], Awaitable[Any]]


def dead_and_alive(service: Service, port: int, **options: str) -> tuple[Function, Function]:
    """Return the handlers of a target where nothing listens and of one that works."""
    given = {"SECRETS": SECRET, "ALLOW_PRIVATE": "true", **options}
    environ = {f"CALLBACKS_FORWARD_{name}": value for name, value in given.items()}
    environ |= {f"CALLBACKS_FORWARD_CRM_{name}": value for name, value in given.items()}
    environ |= {"CALLBACKS_FORWARD_URL": f"http://127.0.0.1:{port}/", "CALLBACKS_FORWARD_CRM_URL": service.url}
    dead, alive = (make_handler(one) for one in targets.read_targets(environ))
    return dead, alive


def message_ids(service: Service) -> list[str]:
    return [json.loads(request.body)["data"]["message_id"] for request in service.requests]


def test_an_unavailable_target_pauses_only_its_own_queue_and_loses_nothing(start: Callable[..., Harness]) -> None:
    port = free_port()
    with serving(says(200)) as service:
        dead, alive = dead_and_alive(service, port, CONCURRENCY="1")
        harness = start(dead, alive, events=40)

        harness.deliver(dead)
        harness.deliver(alive)

        assert harness.totals(alive) == HandlerTotals(delivered=40)
        assert sorted(message_ids(service), key=int) == [str(n) for n in range(40)]
    assert harness.totals(dead) == HandlerTotals(waiting=40)
    assert harness.connection.zcard(keys.rq_scheduled("deliver-forward")) == 4, "those before the fifth failure"
    waiting = [harness.connection.hget(keys.job(job_id), "data") for job_id in harness.waiting_jobs("deliver-forward")]
    assert [queues.parse_arguments(data)[2] for data in waiting] == [1], "all others are at their first attempt"
    found = pause.read_state(harness.connection, "forward")
    assert found is not None
    assert "could not be connected to" in found.reason

    with serving(says(204), port=port) as back:
        deliver_after_pause(harness, dead)
        assert harness.totals(dead) == HandlerTotals(delivered=36, waiting=4)
        due_now(harness, dead)
        harness.deliver(dead)
        assert sorted(message_ids(back), key=int) == [str(n) for n in range(40)]
    assert harness.audit().balances


def test_while_a_target_fails_one_event_is_tried_each_time_and_the_pause_doubles(start: Callable[..., Harness]) -> None:
    with serving(says(500)) as service:
        function = make_handler(target(service.url, CONCURRENCY="1"))
        harness = start(function, events=20)
        harness.deliver(function)
        assert len(service.requests) == 5

        lengths = []
        for _ in range(6):
            before = len(service.requests)
            deliver_after_pause(harness, function)
            assert len(service.requests) == before + 1
            lengths.append(int(harness.connection.hget(keys.paused("forward"), "after_ms")))

    # Every second probe loses an attempt, because the event itself may be the cause.
    assert lengths == [10_000, 10_000, 20_000, 20_000, 40_000, 40_000]
    assert harness.totals(function) == HandlerTotals(waiting=20)
    assert harness.connection.zcard(keys.rq_scheduled("deliver-forward")) == 4 + 3


def fails_for(message_id: str, down: list[bool]) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        is_bad = json.loads(request.body)["data"]["message_id"] == message_id
        await says(500 if down[0] or is_bad else 200)(request, writer)

    return answer


def test_an_event_that_always_fails_does_not_hold_up_the_others(start: Callable[..., Harness]) -> None:
    down = [True]
    with serving(fails_for("4", down)) as service:
        function = make_handler(target(service.url, CONCURRENCY="1"))
        harness = start(function, events=10)
        harness.deliver(function)
        assert message_ids(service) == ["0", "1", "2", "3", "4"], "and the fifth is the probe"

        down[0] = False
        for _ in range(3):
            deliver_after_pause(harness, function)

        assert set(message_ids(service)[-5:]) == {"5", "6", "7", "8", "9"}
        assert harness.totals(function).delivered >= 5


def test_retry_after_pauses_every_worker(start: Callable[..., Harness]) -> None:
    with serving(says(429, headers={"Retry-After": "600"})) as service:
        function = make_handler(target(service.url, CONCURRENCY="1"))
        harness = start(function, events=10)
        harness.deliver(function)
        harness.deliver(function)

        assert len(service.requests) == 1
    found = pause.read_state(harness.connection, "forward")
    assert found is not None
    assert 500 < found.seconds_left <= 600
    assert len(harness.waiting_event_ids(function)) == 10


def test_a_refused_event_is_a_dead_letter_with_the_answer(start: Callable[..., Harness]) -> None:
    with serving(says(422, b"no such order")) as service:
        function = make_handler(target(service.url))
        harness = start(function, events=2)
        harness.deliver(function)

    assert harness.totals(function) == HandlerTotals(dead=2)
    assert [letter["error"].partition(" ")[2] for letter in harness.dead_letters("forward")] == [
        "answered 422: no such order"
    ] * 2


def test_worker_processes_forward_to_each_target_the_events_that_it_wants(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    with serving(says(200)) as all_of_it, serving(says(200)) as none_of_it:
        given = {"SECRETS": SECRET, "ALLOW_PRIVATE": "true"}
        environ = {f"CALLBACKS_FORWARD_{name}": value for name, value in given.items()}
        environ |= {f"CALLBACKS_FORWARD_CRM_{name}": value for name, value in given.items()}
        environ["CALLBACKS_FORWARD_URL"] = all_of_it.url.replace("http://", "http://me:pa55@")
        environ |= {"CALLBACKS_FORWARD_CRM_URL": none_of_it.url, "CALLBACKS_FORWARD_CRM_STATUSES": "UNDELIV"}
        functions = [make_handler(one) for one in targets.read_targets(environ)]
        harness = start(*functions, events=300)

        command = Command(harness, tmp_path / "log", "deliver", CALLBACKS_HANDLERS="forward", **environ)
        try:
            until(lambda: harness.totals(functions[0]).delivered == 300, "everything to be delivered")
            assert command.stop() == 0
        finally:
            command.end()

    assert sorted(message_ids(all_of_it), key=int) == [str(n) for n in range(300)]
    assert all_of_it.connections <= 32
    assert none_of_it.requests == []
    assert not any(secret in command.log for secret in ("pa55", "s3cr3t", SECRET))
    assert harness.audit().balances
