"""How fast callbacks are acknowledged: against servers that do nothing and against other queues, alone, and by two.

Goals P1 to P4. Every check is on (token, address, each field of the body), every answer is 200, and what was
acknowledged is in Redis afterwards; the access log is off for all.
"""

from functools import partial
from typing import Final

from benchmarks import bodies, command, wrk
from benchmarks.command import Run
from benchmarks.contestants import BULLMQ, NAIVE_RQ, NO_OP, OURSELVES, Contestant, check_stored, count_stored
from benchmarks.deployment import Deployment
from benchmarks.measurements import OURS, Measurements
from benchmarks.one_connection import exchange, one_connection

AT_64: Final = "64 connections"
AT_32: Final = "32 connections"
ONE_CONNECTION: Final = "one connection"
TWO_PROCESSES: Final = "two web processes"
ONE_PROCESS: Final = f"{OURS}, one process"
RATE: Final = "requests/s"
# Two processes share what comes in, so each needs as many requests under way as one alone has.
_CONNECTIONS_FOR_TWO: Final = 128
# The servers come first: there are fewer cores than there is to do.
_NICENESS: Final = 5


def measure(run: Run) -> None:
    """Make the table."""
    peers = run.present((NAIVE_RQ, BULLMQ))
    rate = partial(_rate, seconds=run.scale.load_seconds)
    run.compare(AT_64, {peer.name: partial(rate, peer, 64) for peer in (OURSELVES, NO_OP, *peers)})
    run.compare(AT_32, {peer.name: partial(rate, peer, 32) for peer in (OURSELVES, NO_OP, *peers) if peer != NAIVE_RQ})
    run.compare(ONE_CONNECTION, {OURS: partial(one_connection, run.scale.callbacks // 10)})
    two, one = (
        Contestant(name=name, start=partial(Deployment.web, WEB_CONCURRENCY=processes), stored=OURSELVES.stored)
        for name, processes in ((OURS, "2"), (ONE_PROCESS, "1"))
    )
    run.compare(
        TWO_PROCESSES,
        {peer.name: partial(rate, peer, _CONNECTIONS_FOR_TWO, nice=_NICENESS) for peer in (two, one)},
    )


def _rate(contestant: Contestant, connections: int, *, seconds: float, nice: int = 0) -> Measurements:
    with Deployment() as deployment:
        url = contestant.start(deployment)
        with url.connect() as connection:  # some clients make what they need only when they are first used
            exchange(connection, url.request(bodies.body(0)))
        wrk.warm_up(url, connections=connections)
        before = count_stored(contestant, deployment)
        load = wrk.load(url, connections=connections, seconds=seconds, nice=nice)
        check_stored(contestant, deployment, before=before, requests=load.requests, connections=connections)
    return {
        RATE: load.rate,
        "p50 ms": load.p50_us / 1000,
        "p99 ms": load.p99_us / 1000,
        "max ms": load.max_us / 1000,
    }


if __name__ == "__main__":
    command.main("acknowledge", measure, "How fast callbacks are acknowledged: goals P1 to P4.")
