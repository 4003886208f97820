"""All tables, one after the other: `python -m benchmarks`, with the options that each takes; then the goals' table."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks import command, table
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
    options = command.parser("benchmarks", __doc__).parse_args()
    with termination.on_signal(), tempfile.TemporaryDirectory(prefix="callbacks-results-") as passing:
        folder = options.save or Path(passing)
        arguments = ["--scale", options.scale, "--save", str(folder), *(["--no-peers"] if options.no_peers else [])]
        failed: list[str] = []
        for name in TABLES:
            started = time.monotonic()
            print(f"== {name}", flush=True)
            process = subprocess.Popen([sys.executable, "-m", f"benchmarks.{name}", *arguments])
            try:
                if process.wait():
                    failed.append(name)
            finally:
                # After a signal to us: it ends what it has started, and we after it.
                process.terminate()
                process.wait()
            print(f"== {name} took {time.monotonic() - started:.0f} s\n", flush=True)
        print("\n".join(table.lines(table.read(folder))))
    if failed:
        print(f"could not be made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
