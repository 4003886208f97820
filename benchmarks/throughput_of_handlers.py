"""How many events a second each built-in handler takes, compared with the plainest loop over its own library.

Both get the same events in the same batches, in a process of their own that does nothing else; the time goes from the
first batch to the last one's being where it belongs, which is then counted.
"""

import sys
from functools import partial
from typing import Final

import msgspec

from benchmarks import command, databases, endpoint
from benchmarks.command import Run
from benchmarks.deployment import Deployment
from benchmarks.measurements import OURS, Measurements

RATE: Final = "events/s"
A_BATCH: Final = 1_000
LOOPS: Final = {
    "stream": "a pipeline of XADDs",
    "jsonl": "write and fdatasync",
    "sql, SQLite": "executemany",
    "sql, PostgreSQL": "executemany",
    "forward": "a loop of httpx",
}
# A request takes half a millisecond, a line some microseconds.
_FEWER: Final = 10


def measure(run: Run) -> None:
    """Make the table."""
    for name, loop in LOOPS.items():
        handler, _, database = name.partition(", ")
        if why := databases.missing(database):
            run.absent[name] = why
            continue
        number = run.scale.callbacks // (_FEWER if handler == "forward" else 1)
        run_side = partial(_run_side, handler=handler, number=number, database=database)
        run.compare(name, {OURS: partial(run_side, "handler"), loop: partial(run_side, "loop")})
    run.remarks.append("PostgreSQL runs without fsync for both.")


def _run_side(side: str, *, handler: str, number: int, database: str) -> Measurements:
    with Deployment() as deployment, databases.new_database(database, deployment.folder) as url:
        environment = {"CALLBACKS_JSONL_DIR": str(deployment.folder / "events"), "DATABASE_URL": url}
        if handler == "forward":
            environment |= endpoint.start(deployment, 0)
        arguments = [side, handler, str(number), str(min(A_BATCH, number))]
        process = deployment.start(
            f"{side} {handler}", [sys.executable, "-m", "benchmarks.library_loops", *arguments], environment
        )
        process.wait()
        measured: Measurements = msgspec.json.decode(process.output.splitlines()[-1], type=dict[str, float])
    return measured


if __name__ == "__main__":
    command.main(
        "throughput_of_handlers", measure, "How many events a second each handler takes, compared with a plain loop."
    )
