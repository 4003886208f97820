"""What was measured, as it is kept in a results file and printed: raw figures, one dictionary for each repetition."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct, field

from benchmarks.machine import Machine

Measurements: TypeAlias = dict[str, float]
OURS = "callbacks"


class Series(Struct, frozen=True):
    """The repetitions of one contestant, in the order in which they were made."""

    name: str
    samples: list[Measurements]

    def median(self, metric: str) -> float:
        return statistics.median(sample[metric] for sample in self.samples)

    def spread(self, metric: str) -> tuple[float, float]:
        """Return the minimum and the maximum."""
        values = [sample[metric] for sample in self.samples]
        return min(values), max(values)

    def ratio(self, other: "Series", metric: str) -> tuple[float, float, float]:
        """Return the ratio of the medians, and the minimum and maximum ratio of one round."""
        rounds = [a[metric] / b[metric] for a, b in zip(self.samples, other.samples, strict=False)]
        return self.median(metric) / other.median(metric), min(rounds), max(rounds)


class Comparison(Struct, frozen=True):
    """Contestants who took turns under the same conditions."""

    name: str
    series: list[Series]

    def of(self, name: str) -> Series | None:
        """Return a contestant's series, or None if it was absent."""
        return next((series for series in self.series if series.name == name and series.samples), None)

    def ratio(self, name: str, other: str, metric: str) -> tuple[float, float, float] | None:
        """Return the ratio of one contestant to another, as `Series.ratio` does; None if one was absent."""
        one, two = self.of(name), self.of(other)
        return one.ratio(two, metric) if one and two else None


class Results(Struct, frozen=True, kw_only=True):
    """One table's results. `absent` says why a peer has no figures; `remarks` what a reader has to know."""

    table: str
    measured_at: str
    scale: str
    machine: Machine
    comparisons: list[Comparison] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def comparison(self, name: str) -> Comparison | None:
        return next((comparison for comparison in self.comparisons if comparison.name == name), None)


def lines(results: Results) -> Iterator[str]:
    """Yield results as text: each contestant's medians with minimum and maximum, and our ratio to it."""
    yield f"\n{results.table}, {results.measured_at}, scale {results.scale}\n{results.machine}"
    for comparison in results.comparisons:
        yield f"\n{comparison.name}"
        ours = comparison.of(OURS)
        for series in comparison.series:
            for metric in series.samples[0]:
                low, high = series.spread(metric)
                line = f"  {series.name:<24} {metric:<40} {series.median(metric):>12,.4g}  ({low:,.4g} to {high:,.4g})"
                if series is not ours and ours and low > 0 and metric in ours.samples[0]:
                    line += "  {} {:.2f} x ({:.2f} to {:.2f})".format(OURS, *ours.ratio(series, metric))
                yield line
    yield from (f"\nabsent: {name}: {why}" for name, why in results.absent.items())
    yield from (f"\nremark: {remark}" for remark in results.remarks)


def find(results: Mapping[str, Results], table: str, comparison: str) -> Comparison:
    """Return a comparison. Raise ValueError if it was not made."""
    found = results[table].comparison(comparison) if table in results else None
    if found is None:
        raise ValueError(f"there is no result for {comparison!r}: run python -m benchmarks.{table} --save")
    return found


def median(results: Mapping[str, Results], table: str, comparison: str, metric: str, *, series: str = OURS) -> float:
    """Return a median. Raise ValueError if it was not measured."""
    found = find(results, table, comparison).of(series)
    if found is None or metric not in found.samples[0]:
        raise ValueError(f"there is no result for {metric!r}: run python -m benchmarks.{table} --save")
    return found.median(metric)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
