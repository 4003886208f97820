"""How many events a second each built-in handler takes, beside the plainest loop over its own library.

Both get the same events in the same batches, in a process of their own that does nothing else; the time goes from the
first batch to the last one's being where it belongs, which is then counted.
"""

import base64
import importlib.util
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from typing import Final

import msgspec

from benchmarks import command
from benchmarks.command import Run
from benchmarks.deployment import Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import OURS, Measurements
from callbacks.cli.ports import free_port
from tests import postgres_server

RATE: Final = "events/s"
A_BATCH: Final = 1_000
LOOPS: Final = {
    "stream": "a pipeline of XADDs",
    "jsonl": "write and fdatasync",
    "sql, SQLite": "executemany",
    "sql, PostgreSQL": "executemany",
    "forward": "a loop of httpx",
}
_TIMEOUT_SECONDS: Final = 300.0
# A request takes half a millisecond, a line some microseconds.
_FEWER: Final = 10


def measure(run: Run) -> None:
    """Make the table."""
    with ExitStack() as stack:
        for name, loop in LOOPS.items():
            handler, _, kind = name.partition(", ")
            server = None
            if kind == "PostgreSQL":
                if postgres_server.binaries() is None:
                    run.absent[name] = "there is no PostgreSQL"
                    continue
                server = stack.enter_context(postgres_server.PostgresServer())
            if importlib.util.find_spec(f"workers.handlers.{handler}") is None:
                run.absent[name] = "there is no such handler"
                continue
            number = run.scale.callbacks // (_FEWER if handler == "forward" else 1)
            run_side = partial(_run_side, handler=handler, number=number, server=server)
            run.compare(name, {OURS: partial(run_side, "handler"), loop: partial(run_side, "loop")})
    run.add_remark("PostgreSQL runs without fsync for both.")


def _run_side(side: str, *, handler: str, number: int, server: postgres_server.PostgresServer | None) -> Measurements:
    with Deployment() as deployment:
        environment = {
            "CALLBACKS_JSONL_DIR": str(deployment.folder / "events"),
            "DATABASE_URL": f"sqlite:///{deployment.folder}/events.db" if server is None else server.new_database(),
        }
        if handler == "forward":
            endpoint = TargetUrl(free_port(), "/events")
            serving = deployment.start(
                "the endpoint", [sys.executable, "-m", "benchmarks.endpoint", str(endpoint.port), "0"]
            )
            serving.wait_until(endpoint.answers, "its first answer")
            environment |= {
                "CALLBACKS_FORWARD_URL": str(endpoint),
                "CALLBACKS_FORWARD_SECRETS": "whsec_" + base64.b64encode(bytes(range(32))).decode(),
                "CALLBACKS_FORWARD_ALLOW_PRIVATE": "true",
            }
        arguments = [side, handler, str(number), str(min(A_BATCH, number))]
        process = deployment.start(side, [sys.executable, "-m", "benchmarks.library_loops", *arguments], environment)
        try:
            code = process.process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"{side} {handler} was not done in {_TIMEOUT_SECONDS:.0f} s") from None
        if code != 0:
            raise MeasurementFailed(f"{side} {handler}: {process.output[-2000:]}")
        measured: Measurements = msgspec.json.decode(process.output.splitlines()[-1], type=dict[str, float])
    return measured


if __name__ == "__main__":
    command.main("throughput_of_handlers", measure, "How many events a second each handler takes, beside a plain loop.")
