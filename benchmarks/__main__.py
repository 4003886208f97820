"""All tables, one after the other: `python -m benchmarks`, with the options that each takes; then the goals' table."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks import table
from benchmarks.command import RESULTS, SCALES
from callbacks.cli import termination

TABLES: Final = (
    "cost",
    "acknowledge",
    "drain",
    "end_to_end",
    "memory",
    "idle",
    "forward",
    "throughput_of_handlers",
    "growth",
    "cells",
)


def main() -> int:
    """Return 0 if every table could be made. A table that fails does not stop the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="full", help="how much to measure")
    parser.add_argument("--no-peers", action="store_true", help="measure nothing but ourselves and the baselines")
    parser.add_argument("--save", nargs="?", const=RESULTS, type=Path, metavar="FOLDER", help="keep the raw figures")
    options = parser.parse_args()
    with termination.on_signal(), tempfile.TemporaryDirectory(prefix="callbacks-results-") as passing:
        folder = options.save or Path(passing)
        arguments = ["--scale", options.scale, "--save", str(folder), *(["--no-peers"] if options.no_peers else [])]
        failed: list[str] = []
        for name in TABLES:
            started = time.monotonic()
            print(f"== {name}", flush=True)
            if _run([sys.executable, "-m", f"benchmarks.{name}", *arguments]):
                failed.append(name)
            print(f"== {name} took {time.monotonic() - started:.0f} s\n", flush=True)
        print("\n".join(table.lines(table.read(folder))))
    if failed:
        print(f"could not be made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(command: list[str]) -> int:
    process = subprocess.Popen(command)
    try:
        return process.wait()
    finally:
        # After a signal to us: it ends what it has started, and we after it.
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
