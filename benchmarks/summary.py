"""The README's lines on cost and speed, made from the results."""

from collections.abc import Iterator, Mapping

from benchmarks import acknowledge, cost, drain, end_to_end, goals, memory
from benchmarks.contestants import BULLMQ, NAIVE_RQ, SIMPLE_WORKER, STARLETTE
from benchmarks.measurements import OURS, Comparison, Results


def lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield one line for each claim. Raise ValueError if a result is missing."""
    costs = _comparison(results, "cost", cost.UNDER_LOAD)
    remembered = _median(_comparison(results, "cost", memory.TABLE), memory.REMEMBERED)
    yield (
        f"- A callback of three reports takes {_ratio(costs, cost.CPU, STARLETTE):.1f} times the CPU of a request that "
        "does nothing, "
        f"from its POST until your handler has its events, and writes {_median(costs, cost.FILE):.1f} times its body "
        f"to Redis's file. A remembered event takes {remembered:.0f} bytes of Redis's memory."
    )
    stored = _comparison(results, "acknowledge", acknowledge.AT_64)
    yield (
        f"- One web process acknowledges {_median(stored, 'requests/s'):,.0f} callbacks/s, each fsynced before its "
        "200: "
        f"{_ratio(stored, 'requests/s', NAIVE_RQ):.0f} times what a plain RQ receiver does, "
        f"{_ratio(stored, 'requests/s', BULLMQ):.1f} times Fastify with BullMQ."
    )
    delivered = _comparison(results, "drain", drain.UNDER_LOAD)
    one_per_job = _comparison(results, "drain", drain.ONE_PER_JOB)
    yield (
        f"- One `expand` and one `deliver` process deliver {_median(delivered, drain.RATE):,.0f} callbacks/s of three "
        "reports each. With one callback in each job that is "
        f"{_ratio(one_per_job, drain.RATE, SIMPLE_WORKER):.0f} times RQ's own worker."
    )
    quiet = _comparison(results, "end_to_end", f"{end_to_end.QUIET}, 20 callbacks/s")
    busy = _comparison(results, "end_to_end", f"{end_to_end.BUSY}, 3,000 callbacks/s")
    yield (
        f"- From the POST to your handler: {_median(quiet, 'p50 ms'):.0f} ms (median) at 20 callbacks/s, and "
        f"{_median(busy, 'p99 ms'):.0f} ms (p99) at 3,000 callbacks/s, with everything on two cores."
    )
    found = [goals.status(checked) for _, checked in goals.evaluate_goals(results)]
    yield (
        f"- {found.count('met')} of {len(found)} goals are met. [Which are not, compared with what, and how it was "
        "measured](docs/performance.md)."
    )


def _comparison(results: Mapping[str, Results], table: str, name: str) -> Comparison:
    found = results[table].comparison(name) if table in results else None
    if found is None:
        raise ValueError(f"there is no result for {name!r}: run python -m benchmarks.{table} --save")
    return found


def _median(comparison: Comparison, metric: str) -> float:
    ours = comparison.of(OURS)
    if ours is None or metric not in ours.samples[0]:
        raise ValueError(f"there is no result for {metric!r} of {comparison.name!r}")
    return ours.median(metric)


def _ratio(comparison: Comparison, metric: str, over: str) -> float:
    found = comparison.ratio(OURS, over, metric)
    if found is None:
        raise ValueError(f"there is no result for {metric!r} of {over!r}")
    return found[0]
