"""The README's lines on cost and speed, made from the results."""

from collections.abc import Iterator, Mapping
from functools import partial

from benchmarks import acknowledge, cost, drain, goals, measurements, memory
from benchmarks.contestants import BULLMQ, NAIVE_RQ, NO_OP, SIMPLE_WORKER
from benchmarks.measurements import OURS, Results


def lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield one line for each claim. Raise ValueError if a result is missing."""
    median, ratio = partial(measurements.median, results), partial(_ratio, results)
    yield (
        f"- A callback of three reports takes {ratio('cost', cost.UNDER_LOAD, cost.CPU, NO_OP.name):.1f} times the CPU "
        "of a request that does nothing, from its POST until your handler has its events, and writes "
        f"{median('cost', cost.UNDER_LOAD, cost.FILE):.1f} times its body to Redis's file. A remembered event takes "
        f"{median('cost', memory.TABLE, memory.REMEMBERED):.0f} bytes of Redis's memory."
    )
    stored = ("acknowledge", acknowledge.AT_64, acknowledge.RATE)
    yield (
        f"- One web process acknowledges {median(*stored):,.0f} callbacks/s, each fsynced before its 200: "
        f"{ratio(*stored, NAIVE_RQ.name):.0f} times what a plain RQ receiver does, "
        f"{ratio(*stored, BULLMQ.name):.1f} times Fastify with BullMQ."
    )
    yield (
        f"- One `expand` and one `deliver` process deliver {median('drain', drain.UNDER_LOAD, drain.RATE):,.0f} "
        "callbacks/s of three reports each. With one callback in each job that is "
        f"{ratio('drain', drain.ONE_PER_JOB, drain.RATE, SIMPLE_WORKER.name):.0f} times RQ's own worker."
    )
    yield (
        f"- From the POST to your handler: {median('end_to_end', goals.QUIET, 'p50 ms'):.0f} ms (median) at 20 "
        f"callbacks/s, and {median('end_to_end', goals.BUSY, 'p99 ms'):.0f} ms (p99) at 3,000 callbacks/s, with "
        "everything on two cores."
    )
    found = [goals.status(checked) for _, checked in goals.evaluate_goals(results)]
    yield (
        f"- {found.count('met')} of {len(found)} goals are met. [Which are not, compared with what, and how it was "
        "measured](docs/performance.md)."
    )


def _ratio(results: Mapping[str, Results], table: str, comparison: str, metric: str, over: str) -> float:
    found = measurements.find(results, table, comparison).ratio(OURS, over, metric)
    if found is None:
        raise ValueError(f"there is no result for {metric!r} of {over!r}")
    return found[0]
