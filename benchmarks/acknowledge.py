"""How fast callbacks are acknowledged: against servers that do nothing and against other queues, alone, and by two.

Goals P1 to P4. Every check is on (token, address, each field of the body), every answer is 200, and what was
acknowledged is in Redis afterwards; the access log is off for all.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks import bodies, command, load_generator, machine, wrk
from benchmarks.command import Run, Scale
from benchmarks.contestants import (
    BASELINES,
    BULLMQ,
    OTHERS,
    OURSELVES,
    RIVALS,
    STARLETTE,
    Contestant,
    check_stored,
    count_stored,
)
from benchmarks.deployment import Deployment
from benchmarks.measurements import OURS, Measurements
from benchmarks.one_connection import one_connection, post

AT_64: Final = "64 connections"
AT_32: Final = "32 connections"
ONE_CONNECTION: Final = "one connection"
TWO_PROCESSES: Final = "two web processes"
_WARM_UP_FIRST: Final = 50_000_000_000
# Two processes share what comes in, so each needs as many requests under way as one alone has.
_CONNECTIONS_FOR_TWO: Final = 128


def measure(run: Run) -> None:
    """Make the table."""
    if missing := machine.missing("wrk"):
        run.absent["everything under load"] = missing
    else:
        _rates(run)
    run.compare(ONE_CONNECTION, {OURS: one_connection(run.scale.single_requests)})
    _two(run)


def _rates(run: Run) -> None:
    is_full = run.scale.name == "full"
    taking_part: list[Contestant] = [OURSELVES, *(BASELINES if is_full else BASELINES[:1])]
    peers: list[Contestant] = [*RIVALS, *(OTHERS if is_full else ())]
    for peer in peers if run.peers else ():
        if why := peer.absent():
            run.absent[peer.name] = why
        else:
            taking_part.append(peer)
    # The others' order is the same there: only those that the goals are held against.
    at_32 = [peer for peer in taking_part if peer.name in (OURS, STARLETTE, BULLMQ)]
    for name, connections, all_of_them in ((AT_64, 64, taking_part), (AT_32, 32, at_32)):
        if name == AT_64 or run.scale.name != "tiny":
            run.compare(name, {peer.name: partial(_rate, peer, connections, run.scale) for peer in all_of_them})
    run.add_remark(
        "wrk runs on the same cores as the servers that it loads: one thread, about 10 µs of a core a request."
    )


def _rate(contestant: Contestant, connections: int, scale: Scale) -> Measurements:
    with Deployment() as deployment:
        url = contestant.start(deployment)
        post(url, bodies.body(_WARM_UP_FIRST))  # some clients make what they need only when they are first used
        if scale.warm_up_seconds:
            wrk.load(url, connections=connections, seconds=scale.warm_up_seconds, first=_WARM_UP_FIRST + 1)
        before = count_stored(contestant, deployment)
        load = wrk.load(url, connections=connections, seconds=scale.load_seconds)
        check_stored(contestant, deployment, before=before, requests=load.requests, connections=connections)
    return {
        "requests/s": load.rate,
        "p50 ms": load.p50_us / 1000,
        "p99 ms": load.p99_us / 1000,
        "max ms": load.max_us / 1000,
    }


def _two(run: Run) -> None:
    if machine.missing("cc") and machine.missing("wrk"):
        run.absent[TWO_PROCESSES] = "there is neither a C compiler nor wrk"
        return
    generator, how = load_generator.generator()
    run.add_remark(f"Load for one and for two web processes, {_CONNECTIONS_FOR_TWO} connections: {how}")
    contestants: dict[str, Callable[[], Measurements]] = {}
    for name, processes in ((OURS, 2), (f"{OURS}, one process", 1)):
        contestants[name] = partial(_with_processes, processes, run.scale, generator)
    run.compare(TWO_PROCESSES, contestants, repetitions=run.scale.long_repetitions)


def _with_processes(processes: int, scale: Scale, generate: load_generator.Generator) -> Measurements:
    with Deployment() as deployment:
        url = deployment.web(processes=processes)
        if scale.warm_up_seconds:
            generate(url, _CONNECTIONS_FOR_TWO, scale.warm_up_seconds, _WARM_UP_FIRST)
        before = count_stored(OURSELVES, deployment)
        requests, rate = generate(url, _CONNECTIONS_FOR_TWO, scale.load_seconds, 0)
        check_stored(OURSELVES, deployment, before=before, requests=requests, connections=_CONNECTIONS_FOR_TWO)
    return {"requests/s": rate}


if __name__ == "__main__":
    command.main("acknowledge", measure, "How fast callbacks are acknowledged: goals P1 to P4.")
