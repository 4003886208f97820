"""Looking at Redis once for all who ask: many who ask at once, or while Redis hangs, cost one thread and one look."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import redis

from callbacks.ops.status.single_flight import SingleFlight
from tests.ops.running_service import Service
from tests.ops.test_streams import threads

MANY = 50


class SlowCall:
    """A look that takes until it is told to end; the first of them fails if `fails`."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0
        self.begun = threading.Event()
        self.end = threading.Event()
        self.fails_with: type[Exception] | None = redis.TimeoutError if fails else None

    def __call__(self) -> int:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        self.end.wait()
        self.at_once -= 1
        if self.fails_with is not None:
            raise self.fails_with
        return self.calls


async def asked_by_many(single_flight: SingleFlight[int], call: SlowCall) -> list[int | BaseException]:
    """Let one ask, and many more while the look for that one is under way."""
    first = asyncio.create_task(single_flight.get())
    await asyncio.to_thread(call.begun.wait)
    others = [asyncio.create_task(single_flight.get()) for _ in range(MANY)]
    await asyncio.sleep(0)
    call.end.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_those_who_ask_during_a_look_share_one() -> None:
    call = SlowCall()
    results = asyncio.run(asked_by_many(SingleFlight(call), call))
    assert call.most_at_once == 1
    # The one that was under way, or another after it.
    assert call.calls <= 2
    assert set(results) <= {1, 2}


def test_what_was_found_holds_for_as_long_as_was_said() -> None:
    call = SlowCall()
    assert asyncio.run(asked_by_many(SingleFlight(call, seconds=3600), call)) == [1] * (MANY + 1)


def test_a_failure_is_told_to_all_who_wait_and_to_nobody_after_them() -> None:
    call = SlowCall(fails=True)
    single_flight = SingleFlight(call, seconds=3600)

    async def asked() -> int:
        results = await asked_by_many(single_flight, call)
        assert {type(one) for one in results} == {redis.TimeoutError}
        call.fails_with = None
        return await single_flight.get()

    # One for the first, one for all who waited, one for who came later.
    assert asyncio.run(asked()) == call.calls == 3


def test_many_strangers_who_ask_while_redis_hangs_take_no_thread_each(guarded: Service) -> None:
    statuses = {"/metrics": 200, "/audit": 503, "/readyz": 503}
    no_limits = httpx.Limits()
    guarded.redis.pause()
    try:
        with (
            ThreadPoolExecutor(MANY * len(statuses)) as pool,
            httpx.Client(base_url=guarded.ops_url, timeout=60, limits=no_limits) as client,
        ):
            asked = {path: [pool.submit(client.get, path) for _ in range(MANY)] for path in statuses}
            most = 0
            while not all(one.done() for answers in asked.values() for one in answers):
                assert client.get("/livez").status_code == 200
                most = max(most, threads(guarded))
                time.sleep(0.05)
    finally:
        guarded.redis.resume()
    for path, status in statuses.items():
        assert {one.result().status_code for one in asked[path]} == {status}, path
    assert most < MANY // 2


def test_what_nobody_foresaw_is_raised_to_all_who_wait_of_one_look() -> None:
    call = SlowCall()
    call.fails_with = RuntimeError
    results = asyncio.run(asked_by_many(SingleFlight(call), call))
    assert {type(one) for one in results} == {RuntimeError}
    assert call.calls <= 2
