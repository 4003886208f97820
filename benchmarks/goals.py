# ruff: noqa: RUF001  # the sign is meant
"""The goals: what each is held against, and what its figure is. The tables in docs/performance.md are made from these.

C are goals of cost, which hold on any machine; P of rates and times, which are of one machine.

A goal's checks are ratios of two contestants' medians, or medians themselves; it is met if all of them are. A check
whose figures are missing (no peer, no wrk, another scale) is no check, and is said to be unmeasured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from benchmarks import acknowledge, cost, drain, end_to_end, forward, growth, idle, memory
from benchmarks.acknowledge import AT_32, AT_64, ONE_CONNECTION, ONE_PROCESS, TWO_PROCESSES
from benchmarks.contestants import BULLMQ, BULLMQ_WORKER, NAIVE_RQ, NO_OP, SIMPLE_WORKER
from benchmarks.measurements import OURS, Comparison, Results
from benchmarks.throughput_of_handlers import LOOPS
from benchmarks.throughput_of_handlers import RATE as HANDLER_RATE


class CheckResult(Struct, frozen=True):
    """What a check found, in words, and whether it is what was wanted; None if there was nothing to judge."""

    text: str
    met: bool | None


# One thing to be judged by what was measured.
Check: TypeAlias = Callable[[Mapping[str, Results]], CheckResult]
NOT_MEASURED: Final = CheckResult("not measured", None)


class Goal(Struct, frozen=True):
    """A goal: its number, what is measured, what is wanted, and the checks."""

    number: str
    what: str
    wanted: str
    checks: Sequence[Check]


def _goal(number: str, what: str, wanted: str, *checks: Check) -> Goal:
    return Goal(number, what, wanted, checks)


def _check(table: str, name: str, evaluation: Callable[[Comparison], CheckResult | None]) -> Check:
    """Judge one comparison of a table."""

    def check(results: Mapping[str, Results]) -> CheckResult:
        found = results[table].comparison(name) if table in results else None
        return (evaluation(found) if found else None) or NOT_MEASURED

    return check


def _ratio(
    table: str, name: str, metric: str, over: str, *, minimum: float = 0.0, maximum: float = 0.0, label: str = ""
) -> Check:
    """Want our median of `metric` to be at least, or at most, a multiple of that of `over`."""

    def evaluation(comparison: Comparison) -> CheckResult | None:
        found = comparison.ratio(OURS, over, metric)
        if found is None:
            return None
        ratio, low, high = found
        text = f"{ratio:.2f} × {label or over} ({low:.2f} to {high:.2f})"
        return CheckResult(text, ratio >= minimum if minimum else ratio <= maximum)

    return _check(table, name, evaluation)


def _value(
    table: str, name: str, metric: str, text: str, *, minimum: float | None = None, maximum: float | None = None
) -> Check:
    """Want our median of `metric` to be at least, or at most, a value; `text` shows it, as in "{:.1f} ms"."""

    def evaluation(comparison: Comparison) -> CheckResult | None:
        ours = comparison.of(OURS)
        if ours is None or metric not in ours.samples[0]:
            return None
        value = ours.median(metric)
        met = (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
        return CheckResult(text.format(value), None if minimum is maximum is None else met)

    return _check(table, name, evaluation)


def _flat(name: str, cost: str, unit: str) -> Check:
    """Want the cost at every point of a sweep within 20 % of the sweep's median."""

    def evaluation(comparison: Comparison) -> CheckResult | None:
        if len(comparison.series) < _POINTS:
            return None
        medians = {series.name: series.median(cost) for series in comparison.series}
        middle = sorted(medians.values())[len(medians) // 2]
        label = ", ".join(f"{point}: {value:,.0f}" for point, value in medians.items())
        met = all(abs(value / middle - 1) <= _FLAT for value in medians.values())
        return CheckResult(f"{name} {label} {unit}", met)

    return _check("growth", name, evaluation)


def _no_growth(name: str) -> Check:
    """Want no more on its way in the second half of the load than in the first, but for a moment's load."""

    def evaluation(comparison: Comparison) -> CheckResult | None:
        ours = comparison.of(OURS)
        if ours is None:
            return None
        first, second = (ours.median(f"events on their way, {half} half") for half in ("first", "second"))
        text = f"{first:,.0f}, then {second:,.0f} events on their way"
        return CheckResult(text, second <= first * 1.2 + _MOMENT_EVENTS)

    return _check("end_to_end", name, evaluation)


def _handler_more(metric: str, text: str, *, maximum: float) -> Check:
    """Want what a handler more costs to be at most `maximum`."""

    def evaluation(comparison: Comparison) -> CheckResult | None:
        value = cost.of_a_handler(comparison, metric)
        return None if value is None else CheckResult(text.format(value), value <= maximum)

    return _check("cost", cost.BY_HANDLERS, evaluation)


def _cost(metric: str, text: str, *, maximum: float | None = None) -> Check:
    return _value("cost", cost.UNDER_LOAD, metric, text, maximum=maximum)


_FLAT: Final = 0.2
# Fewer say nothing of a course.
_POINTS: Final = 2
# What comes in within a tenth of a second at 3,000 callbacks of three reports: less than that is no growth.
_MOMENT_EVENTS: Final = 900
BUSY: Final = f"{end_to_end.BUSY}, 3,000 callbacks/s"
QUIET: Final = f"{end_to_end.QUIET}, 20 callbacks/s"
_RATE: Final = acknowledge.RATE

COST_GOALS: Final = (
    _goal(
        "C1",
        "a callback of three reports, from POST until a batch handler has settled it: CPU of all processes and Redis",
        "≤ 2.0 × a request of a Starlette no-op",
        _cost(cost.CPU, "{:.0f} µs"),
        _ratio("cost", cost.UNDER_LOAD, cost.CPU, NO_OP.name, maximum=2.0),
        _ratio("cost", cost.UNDER_LOAD, cost.CPU, BULLMQ.name, maximum=1.0),
    ),
    _goal(
        "C2",
        "the same: what Redis writes",
        "file ≤ 3.0 × the body",
        _cost(cost.FILE, "{:.2f} × the body", maximum=3.0),
        *(_cost(count, "{:.2f} " + count) for count in cost.COUNTS),
    ),
    _goal(
        "C3",
        "memory of Redis for an event that is remembered",
        "≤ 60 bytes (≤ 40 with Redis 8.2)",
        _value("cost", memory.TABLE, memory.REMEMBERED, "{:.0f} bytes", maximum=60),
    ),
    _goal(
        "C4",
        "each handler more, of twelve",
        "file ≤ 0.4 × the body; CPU of Redis ≤ 8 µs",
        _handler_more(cost.FILE, "{:.2f} × the body", maximum=0.4),
        _handler_more(cost.REDIS_CPU, "{:.1f} µs", maximum=8),
    ),
    _goal(
        "C5",
        "longest block: Redis by one script, with twelve handlers; the web process by a body of 11 MB, one record bad",
        "≤ 5 ms; ≤ 50 ms",
        _value("cost", cost.BLOCKS, cost.SCRIPT, "{:.1f} ms", maximum=5),
        _value("cost", cost.BLOCKS, cost.LOOP, "{:.0f} ms", maximum=50),
    ),
)

RATE_GOALS: Final = (
    _goal(
        "P1",
        "acknowledge, 64 connections, one web process, fsync always",
        "≥ 1.0 × Starlette no-op; ≥ 1.0 × Fastify+BullMQ; ≥ 13 × naive RQ",
        _value("acknowledge", AT_64, _RATE, "{:,.0f}/s"),
        _ratio("acknowledge", AT_64, _RATE, NO_OP.name, minimum=1.0),
        _ratio("acknowledge", AT_64, _RATE, BULLMQ.name, minimum=1.0),
        _ratio("acknowledge", AT_64, _RATE, NAIVE_RQ.name, minimum=13.0),
    ),
    _goal(
        "P2",
        "the same at 32 connections",
        "≥ 0.8 × Starlette no-op; p99 ≤ that of Fastify+BullMQ",
        _value("acknowledge", AT_32, _RATE, "{:,.0f}/s"),
        _ratio("acknowledge", AT_32, _RATE, NO_OP.name, minimum=0.8),
        _value("acknowledge", AT_32, "p99 ms", "p99 {:.1f} ms"),
        _ratio("acknowledge", AT_32, "p99 ms", BULLMQ.name, maximum=1.0, label=f"the p99 of {BULLMQ.name}"),
    ),
    _goal(
        "P3",
        "one connection, one request at a time",
        "p50 ≤ 1.5 × a bare fsynced RPUSH from redis-py",
        _value("acknowledge", ONE_CONNECTION, "p50 ms", "p50 {:.2f} ms"),
        _value("acknowledge", ONE_CONNECTION, "p50 / bare RPUSH p50", "{:.2f} × bare RPUSH", maximum=1.5),
    ),
    _goal(
        "P4",
        "two web processes against one",
        "≥ 1.6 ×",
        _value("acknowledge", TWO_PROCESSES, _RATE, "{:,.0f}/s"),
        _ratio("acknowledge", TWO_PROCESSES, _RATE, ONE_PROCESS, minimum=1.6, label="one process"),
    ),
    _goal(
        "P5",
        "drain waiting callbacks of three reports, one expand and one deliver process, committed one a job",
        "≥ 8,000 callbacks/s; ≥ 60 × SimpleWorker with a job per callback",
        _value("drain", drain.ONE_PER_JOB, drain.RATE, "{:,.0f}/s", minimum=8_000),
        _ratio("drain", drain.ONE_PER_JOB, drain.RATE, SIMPLE_WORKER.name, minimum=60.0),
    ),
    _goal(
        "P6",
        "the same, committed as load at 64 connections leaves them",
        "≥ 15,000 callbacks/s; ≥ 1.0 × BullMQ, concurrency 50",
        _value("drain", drain.UNDER_LOAD, drain.RATE, "{:,.0f}/s", minimum=15_000),
        _ratio("drain", drain.UNDER_LOAD, drain.RATE, BULLMQ_WORKER.name, minimum=1.0),
    ),
    _goal(
        "P7",
        "everything at once, open loop at 3,000 callbacks/s",
        "no backlog growth; POST to handler p99 ≤ 250 ms",
        _no_growth(BUSY),
        _value("end_to_end", BUSY, "p99 ms", "p99 {:.0f} ms", maximum=250),
    ),
    _goal(
        "P8",
        "quiet, 20 callbacks/s",
        "POST to handler p50 ≤ 12 ms, p99 ≤ 40 ms",
        _value("end_to_end", QUIET, "p50 ms", "p50 {:.1f} ms", maximum=12),
        _value("end_to_end", QUIET, "p99 ms", "p99 {:.1f} ms", maximum=40),
    ),
    _goal(
        "P9",
        "Redis memory",
        "waiting callback ≤ 1.5 × its body under load, ≤ 2 KiB alone; all given back",
        _value("memory", memory.TABLE, "under load, x its body", "{:.2f} × its body under load", maximum=1.5),
        _value("memory", memory.TABLE, "alone, bytes a callback", "{:,.0f} bytes alone", maximum=2048),
        _value("memory", memory.TABLE, "not given back, % of the most", "{:.1f} % not given back", maximum=1.0),
    ),
    _goal(
        "P10",
        "forward events to an endpoint answering in 50 ms, concurrency 32",
        "≥ 90 % of the most: rounds of 32 calls and 50 ms",
        _value("forward", "200 events", forward.SHARE, "200 events: {:.0f} %", minimum=90),
        _value("forward", "2,000 events", forward.SHARE, "2,000 events: {:.0f} %", minimum=90),
    ),
    _goal(
        "P11",
        "standing still and starting",
        "each process < 0.5 % of a core idle, ≤ 70 MiB; `callbacks web` answers within 1 s",
        _value("idle", idle.IDLE, "the most, % of a core", "{:.2f} % of a core", maximum=0.5),
        _value("idle", idle.IDLE, "the most, MiB", "{:.0f} MiB", maximum=70),
        _value("idle", idle.STARTING, "ms to the first 200", "{:.0f} ms", maximum=1000),
    ),
    _goal(
        "P12",
        "growth of the backlog, handlers, worker processes, bundles",
        "CPU of a callback (of a report for bundles) flat within 20 %",
        _flat(growth.BACKLOG, growth.COST, "µs"),
        _flat(growth.HANDLERS, growth.COST_OF_DELIVERY, "µs each"),
        _flat(growth.PROCESSES, growth.COST, "µs"),
        _flat(growth.BUNDLES, growth.COST_OF_REPORT, "µs a report"),
    ),
    _goal(
        "P13",
        "each built-in handler compared with a plain loop over its library",
        "≥ 0.7 ×",
        *(
            _ratio("throughput_of_handlers", handler, HANDLER_RATE, loop, minimum=0.7, label=f"{loop} ({handler})")
            for handler, loop in LOOPS.items()
        ),
    ),
)


def evaluate_goals(
    results: Mapping[str, Results], goals: Sequence[Goal] = (*COST_GOALS, *RATE_GOALS)
) -> Iterator[tuple[Goal, list[CheckResult]]]:
    """Yield each goal with the results of its checks; `results` is by the table's name."""
    for goal in goals:
        yield goal, [check(results) for check in goal.checks]


def status(checked: Sequence[CheckResult]) -> str:
    """Return whether a goal is "met", "not met" or "open", as something was not measured."""
    met = [result.met for result in checked if result.met is not None]
    if NOT_MEASURED in checked and all(met):
        return "open"
    return "met" if met and all(met) else "not met"
