"""What was measured, as it is kept in a results file and printed: raw figures, one dictionary for each repetition."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct, field

from benchmarks.deployment import MeasurementFailed
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


class Comparison(Struct, frozen=True):
    """Contestants who took turns under the same conditions."""

    name: str
    series: list[Series]

    def of(self, name: str) -> Series | None:
        """Return a contestant's series, or None if it was absent."""
        return next((series for series in self.series if series.name == name and series.samples), None)

    def ratio(self, name: str, other: str, metric: str) -> tuple[float, float, float] | None:
        """Return the ratio of two contestants' medians, and the minimum and maximum ratio of one round."""
        one, two = self.of(name), self.of(other)
        if one is None or two is None:
            return None
        rounds = [a[metric] / b[metric] for a, b in zip(one.samples, two.samples, strict=False)]
        return one.median(metric) / two.median(metric), min(rounds), max(rounds)


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


def interleave(
    contestants: Mapping[str, Callable[[], Measurements]],
    *,
    repetitions: int,
    absent: dict[str, str],
    echo: Callable[[str], None],
) -> list[Series]:
    """Let every contestant run in turn, `repetitions` times: A B C A B C, so that a slow minute meets all of them.

    A peer that fails is taken out and entered in `absent` with the reason; our own failure is raised.
    """
    samples: dict[str, list[Measurements]] = {name: [] for name in contestants}
    for number in range(repetitions):
        for name, run in contestants.items():
            if name in absent:
                continue
            try:
                measured = run()
            except MeasurementFailed as exc:
                if name.startswith(OURS):
                    raise
                absent[name] = str(exc).strip()
                echo(f"  {name}: absent: {exc}")
                continue
            samples[name].append(measured)
            text = ", ".join(f"{metric} {value:,.4g}" for metric, value in measured.items())
            echo(f"  {number + 1}/{repetitions} {name}: {text}")
    return [Series(name, stored) for name, stored in samples.items() if stored and name not in absent]


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield a comparison as text: each contestant's medians with minimum and maximum, and our ratio to it."""
    yield f"{comparison.name}"
    for series in comparison.series:
        for metric in series.samples[0]:
            low, high = series.spread(metric)
            line = f"  {series.name:<24} {metric:<24} {series.median(metric):>12,.4g}  ({low:,.4g} to {high:,.4g})"
            if series.name != OURS and series.median(metric) > 0:
                ratio = comparison.ratio(OURS, series.name, metric) if _shares(comparison, metric) else None
                if ratio is not None:
                    line += f"  {OURS} {ratio[0]:.2f} x ({ratio[1]:.2f} to {ratio[2]:.2f})"
            yield line


def _shares(comparison: Comparison, metric: str) -> bool:
    ours = comparison.of(OURS)
    return ours is not None and all(metric in sample and sample[metric] for sample in ours.samples)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
