"""What all tables' commands have in common: their options, the size of a run, and what they print and keep."""

import argparse
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from benchmarks import machine, measurements
from benchmarks.measurements import Comparison, Results
from callbacks.cli import termination

RESULTS: Final = Path(__file__).with_name("results")


class Scale(Struct, frozen=True, kw_only=True):
    """How much is measured. `full` is what documented figures come from; `tiny` only shows that it works."""

    name: str
    repetitions: int
    long_repetitions: int
    """Turns of what takes its time or hardly varies."""
    warm_up_seconds: float
    load_seconds: float
    callbacks: int
    """Waiting callbacks in a drain."""
    slow_callbacks: int
    """The same where a job takes milliseconds."""
    single_requests: int
    open_loop_rate: float
    open_loop_seconds: float
    quiet_seconds: float
    idle_seconds: float
    backlogs: tuple[int, ...]
    counts: tuple[int, ...]
    """Numbers of handlers, and of worker processes."""
    bundles: tuple[int, ...]
    growth_callbacks: int
    growth_reports: int
    history: tuple[int, int, int]
    """Rows and failures in which people are searched, and how many people are forgotten."""


SCALES: Final = {
    scale.name: scale
    for scale in (
        Scale(
            name="full",
            repetitions=5,
            long_repetitions=5,
            warm_up_seconds=1.0,
            load_seconds=5.0,
            callbacks=20_000,
            slow_callbacks=1_000,
            single_requests=2_000,
            open_loop_rate=3_000,
            open_loop_seconds=60.0,
            quiet_seconds=30.0,
            idle_seconds=30.0,
            backlogs=(1_000, 10_000, 100_000, 500_000),
            counts=(1, 2, 4, 8),
            bundles=(1, 3, 10, 100, 1_000, 5_000),
            growth_callbacks=20_000,
            growth_reports=60_000,
            history=(10_000_000, 200_000, 1_000),
        ),
        Scale(
            name="quick",
            repetitions=2,
            long_repetitions=1,
            warm_up_seconds=1.0,
            load_seconds=1.0,
            callbacks=6_000,
            slow_callbacks=150,
            single_requests=300,
            open_loop_rate=3_000,
            open_loop_seconds=6.0,
            quiet_seconds=4.0,
            idle_seconds=4.0,
            backlogs=(1_000, 10_000),
            counts=(1, 4),
            bundles=(1, 5_000),
            growth_callbacks=3_000,
            growth_reports=10_000,
            history=(300_000, 10_000, 100),
        ),
        Scale(
            name="tiny",
            repetitions=1,
            long_repetitions=1,
            warm_up_seconds=0.0,
            load_seconds=1.0,
            callbacks=200,
            slow_callbacks=20,
            single_requests=20,
            open_loop_rate=200,
            open_loop_seconds=0.5,
            quiet_seconds=0.3,
            idle_seconds=0.3,
            backlogs=(100,),
            counts=(1,),
            bundles=(10,),
            growth_callbacks=100,
            growth_reports=100,
            history=(2_500, 400, 20),
        ),
    )
}


class Run:
    """One table being made: its scale, whether peers take part, and what it has found so far."""

    def __init__(self, scale: Scale, *, peers: bool) -> None:
        self.scale = scale
        self.peers = peers
        self.comparisons: list[Comparison] = []
        self.absent: dict[str, str] = {}
        self.remarks: list[str] = []

    def compare(
        self,
        name: str,
        contestants: dict[str, Callable[[], measurements.Measurements]],
        *,
        repetitions: int | None = None,
    ) -> None:
        """Let the contestants take turns, print what they did, and keep it."""
        print(f"{name}:", flush=True)
        series = measurements.interleave(
            contestants, repetitions=repetitions or self.scale.repetitions, absent=self.absent, echo=_echo
        )
        self.comparisons.append(Comparison(name, series))

    def add_remark(self, text: str) -> None:
        """Say something that a reader of the figures has to know."""
        self.remarks.append(text)


def main(table: str, measure: Callable[[Run], None], description: str) -> None:
    """Read the options, measure, print, and keep the raw figures if asked to."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{table}", description=description)
    parser.add_argument("--scale", choices=tuple(SCALES), default="full", help="how much to measure")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", help="the same as --scale quick")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contestant, instead of the scale's")
    parser.add_argument("--no-peers", action="store_true", help="measure nothing but ourselves and the baselines")
    parser.add_argument(
        "--save", nargs="?", const=RESULTS, type=Path, metavar="FOLDER", help=f"keep the raw figures ({RESULTS.name}/)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures to this file")
    options = parser.parse_args()
    scale = SCALES[options.scale]
    if options.rounds is not None:
        if options.rounds < 1:
            parser.error(f"--rounds: {options.rounds} is less than 1; give the number of turns")
        scale = msgspec.structs.replace(scale, repetitions=options.rounds, long_repetitions=options.rounds)
    # A signal ends it as Ctrl-C does: with every process that it started.
    with termination.on_signal():
        before = machine.describe(machine.disk_folder())
        print(before, flush=True)
        run = Run(scale, peers=not options.no_peers)
        measure(run)
    results = Results(
        table=table,
        measured_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        scale=scale.name,
        machine=before,
        comparisons=run.comparisons,
        absent=run.absent,
        remarks=run.remarks,
    )
    _print(results)
    if options.json is not None:
        _write(results, options.json)
    if options.save is not None:
        options.save.mkdir(parents=True, exist_ok=True)
        print(f"kept in {_write(results, options.save / f'{table}.json').name}")


def _print(results: Results) -> None:
    print(f"\n{results.table}, {results.measured_at}, scale {results.scale}\n{results.machine}")
    for comparison in results.comparisons:
        print()
        for line in measurements.lines(comparison):
            print(line)
    for name, why in results.absent.items():
        print(f"\nabsent: {name}: {why}")
    for remark in results.remarks:
        print(f"\nremark: {remark}")


def _write(results: Results, path: Path) -> Path:
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return unfinished.replace(path)


def _echo(line: str) -> None:
    print(line, flush=True)
