"""How fast waiting callbacks are delivered: one expand process, one deliver process, a handler that does nothing.

Goals P5 and P6: committed one a job, as single senders leave them, and as load at 64 connections leaves them. Beside
it a peer's worker, with one job for each callback, which drains a queue that its own client has filled.
"""

import statistics
import tempfile
from functools import partial
from typing import Final

import msgspec

from benchmarks import backlog, bodies, command
from benchmarks.command import Run
from benchmarks.contestants import BULLMQ_WORKER, SIMPLE_WORKER, Consumer
from benchmarks.deployment import Deployment
from benchmarks.measurements import OURS, Measurements

ONE_PER_JOB: Final = "committed one a job"
UNDER_LOAD: Final = "committed under load"
RATE: Final = "callbacks/s"
# RQ's worker takes milliseconds for a job.
_FEWER: Final = 20


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    for name, drained, peer, callbacks in (
        (ONE_PER_JOB, _one_per_job, SIMPLE_WORKER, scale.callbacks // _FEWER),
        (UNDER_LOAD, _under_load, BULLMQ_WORKER, scale.callbacks),
    ):
        rivals = {one.name: partial(_peer, peer, callbacks) for one in run.present([peer])}
        run.compare(name, {OURS: partial(drained, scale.callbacks), **rivals})
    if run.peers:
        run.remarks.append(f"{SIMPLE_WORKER.name} had {scale.callbacks // _FEWER}.")


def _one_per_job(callbacks: int) -> Measurements:
    with Deployment() as deployment:
        backlog.fill(deployment.redis, callbacks)
        seconds = backlog.drain(deployment)
    return {RATE: callbacks / seconds, "seconds": seconds}


def _under_load(callbacks: int) -> Measurements:
    with Deployment() as deployment:
        stored = backlog.fill_by_load(deployment, callbacks)
        sizes = backlog.job_sizes(deployment.redis)
        seconds = backlog.drain(deployment)
    return {
        RATE: stored / seconds,
        "callbacks a job": statistics.mean(sizes),
        "callbacks a job, at most": max(sizes),
        "callbacks": stored,
        "seconds": seconds,
    }


def _peer(peer: Consumer, callbacks: int) -> Measurements:
    with Deployment() as deployment, tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(bodies.template())
        file.flush()
        environment = {
            "BENCHMARK_CALLBACKS": str(callbacks),
            "BENCHMARK_TEMPLATE": file.name,
            "BENCHMARK_MARK": bodies.NUMBER_MARK,
        }
        deployment.start(f"{peer.name}, filling its queue", [*peer.command, "fill"], environment).wait()
        working = deployment.start(peer.name, [*peer.command, "work"], environment)
        working.wait_until(lambda: '{"callbacks"' in working.output, "its rate")
        (line,) = (line for line in working.output.splitlines() if line.startswith('{"callbacks"'))
    return {RATE: float(msgspec.json.decode(line)["rate"])}


if __name__ == "__main__":
    command.main("drain", measure, "How fast waiting callbacks are delivered: goals P5 and P6.")
