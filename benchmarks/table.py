"""Tables from the results that are kept: `python -m benchmarks.table`.

docs/performance.md has the goals with what was measured, and what a load needs (--sizing); the README a --summary:
`make docs` writes them.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from benchmarks import goals, sizing, summary
from benchmarks.command import RESULTS
from benchmarks.goals import CheckResult
from benchmarks.measurements import Results


def main() -> int:
    """Print the table; 1 if a result that it needs is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the results are")
    kind = parser.add_mutually_exclusive_group()
    for name, made, what in (("sizing", sizing.lines, "what a load needs"), ("summary", summary.lines, "the summary")):
        kind.add_argument(f"--{name}", dest="made", action="store_const", const=made, default=lines, help=what)
    options = parser.parse_args()
    try:
        print("\n".join(options.made(read(options.results))))
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def read(folder: Path) -> dict[str, Results]:
    """Return the results in `folder`, by the table's name."""
    found = [msgspec.json.decode(path.read_bytes(), type=Results) for path in sorted(folder.glob("*.json"))]
    return {results.table: results for results in found}


def lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Return the tables, costs before rates, and under them what they were measured on."""
    for what, wanted in (("cost", goals.COST_GOALS), ("rate or time", goals.RATE_GOALS)):
        yield f"| | {what} | goal | measured | |"
        yield "|---|---|---|---|---|"
        for goal, checked in goals.evaluate_goals(results, wanted):
            texts, status = "; ".join(_texts(checked)), goals.status(checked)
            yield f"| {goal.number} | {goal.what} | {goal.wanted} | {texts} | {status} |"
        yield ""
    for machine in {one.machine.cpu: one.machine for one in results.values()}.values():
        packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        yield (
            f"Measured on {machine.cores} cores ({machine.cpu}), Linux {machine.kernel}, Python {machine.python}, "
            f"Redis {machine.redis} (`appendfsync always`, {machine.disk}), {packages}; a write of 4 KiB was fsynced "
            f"in {_range(results, 'fsync_p50_ms')} ms (p99 {_range(results, 'fsync_p99_ms')} ms). Medians; in "
            "parentheses the least and the greatest ratio of one round."
        )
    small = sorted(one.table for one in results.values() if one.scale != "full")
    if small:
        yield f"Not of full size, so no measurement: {', '.join(small)}."
    absent = sorted({name for one in results.values() for name in one.absent})
    if absent:
        yield f"Absent: {', '.join(absent)}."


def _texts(checked: list[CheckResult]) -> Iterator[str]:
    yield from (f"**{result.text}**" if result.met is False else result.text for result in checked)


def _range(results: Mapping[str, Results], field: str) -> str:
    values = [getattr(one.machine, field) for one in results.values()]
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    sys.exit(main())
