"""What all tables' commands have in common: their options, the size of a run, and what they print and keep."""

import argparse
import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct, field

from benchmarks import machine, measurements
from benchmarks.contestants import Consumer, Contestant
from benchmarks.deployment import MeasurementFailed
from benchmarks.measurements import OURS, Comparison, Measurements, Results, Series
from callbacks.cli import termination

RESULTS: Final = Path(__file__).with_name("results")
_Peer = TypeVar("_Peer", Contestant, Consumer)


class Scale(Struct, frozen=True, kw_only=True):
    """How much is measured. `full` is what documented figures come from; `tiny` only shows that it works."""

    name: str = "full"
    repetitions: int = 5
    load_seconds: float = 5.0
    callbacks: int = 20_000
    """Waiting callbacks in a drain."""
    open_loop_rate: float = 3_000
    quiet_seconds: float = 30.0
    """Of little load, and of none; a high rate is measured for twice as long."""
    backlogs: tuple[int, ...] = (1_000, 10_000, 100_000, 500_000)
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of handlers, and of worker processes."""
    bundles: tuple[int, ...] = (1, 3, 10, 100, 1_000, 5_000)
    history: tuple[int, int, int] = (10_000_000, 200_000, 1_000)
    """Rows and failures in which people are searched, and how many people are forgotten."""


_QUICK: Final = Scale(
    name="quick",
    repetitions=1,
    load_seconds=2.0,
    callbacks=4_000,
    quiet_seconds=4.0,
    backlogs=(1_000, 10_000),
    counts=(1, 4),
    bundles=(1, 5_000),
    history=(300_000, 10_000, 100),
)
_TINY: Final = Scale(
    name="tiny",
    repetitions=1,
    load_seconds=1.0,
    callbacks=200,
    open_loop_rate=200,
    quiet_seconds=0.3,
    backlogs=(100,),
    counts=(1,),
    bundles=(10,),
    history=(2_500, 400, 20),
)
SCALES: Final = {scale.name: scale for scale in (Scale(), _QUICK, _TINY)}


class Run(Struct, kw_only=True):
    """One table being made: its scale, whether peers take part, and what it has found so far."""

    scale: Scale
    peers: bool
    comparisons: list[Comparison] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def present(self, peers: Iterable[_Peer]) -> list[_Peer]:
        """Return the peers that can take part, and note why others cannot."""
        wanted = list(peers) if self.peers else []
        self.absent |= {peer.name: why for peer in wanted if (why := peer.absent())}
        return [peer for peer in wanted if peer.name not in self.absent]

    def compare(
        self, name: str, contestants: Mapping[str, Callable[[], Measurements]], *, repetitions: int | None = None
    ) -> None:
        """Let every contestant run in turn, A B C A B C, so that a slow minute meets all; print and keep what they did.

        A peer that fails is taken out and entered in `absent` with the reason; our own failure is raised.
        """
        print(f"{name}:", flush=True)
        rounds = repetitions or self.scale.repetitions
        samples: dict[str, list[Measurements]] = {name: [] for name in contestants}
        for number in range(rounds):
            for contestant, run in contestants.items():
                if contestant in self.absent:
                    continue
                try:
                    samples[contestant].append(run())
                except MeasurementFailed as exc:
                    if contestant.startswith(OURS):
                        raise
                    self.absent[contestant] = str(exc).strip()
                    print(f"  {contestant}: absent: {exc}", flush=True)
                    continue
                text = ", ".join(f"{metric} {value:,.4g}" for metric, value in samples[contestant][-1].items())
                print(f"  {number + 1}/{rounds} {contestant}: {text}", flush=True)
        series = [Series(each, made) for each, made in samples.items() if made and each not in self.absent]
        self.comparisons.append(Comparison(name, series))


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the options of all tables."""
    options = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    options.add_argument("--scale", choices=tuple(SCALES), default="full", help="how much to measure")
    options.add_argument("--no-peers", action="store_true", help="measure nothing but ourselves and the baselines")
    options.add_argument(
        "--save", nargs="?", const=RESULTS, type=Path, metavar="FOLDER", help=f"keep the raw figures ({RESULTS.name}/)"
    )
    return options


def main(table: str, measure: Callable[[Run], None], description: str | None) -> None:
    """Read the options, measure, print, and keep the raw figures if asked to."""
    arguments = parser(f"benchmarks.{table}", description)
    arguments.add_argument("--rounds", type=int, metavar="N", help="turns of each contestant, instead of the scale's")
    options = arguments.parse_args()
    scale = SCALES[options.scale]
    if options.rounds is not None:
        if options.rounds < 1:
            arguments.error(f"--rounds: {options.rounds} is less than 1; give the number of turns")
        scale = msgspec.structs.replace(scale, repetitions=options.rounds)
    # A signal ends it as Ctrl-C does: with every process that it started.
    with termination.on_signal():
        before = machine.describe(machine.disk_folder())
        print(before, flush=True)
        run = Run(scale=scale, peers=not options.no_peers)
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
    print("\n".join(measurements.lines(results)))
    if options.save is not None:
        options.save.mkdir(parents=True, exist_ok=True)
        unfinished = options.save / f"{table}.part"
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        print(f"kept in {unfinished.replace(options.save / f'{table}.json').name}")
