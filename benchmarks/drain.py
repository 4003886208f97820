"""How fast waiting callbacks are delivered: one expand process, one deliver process, a handler that does nothing.

Goals P5 and P6: committed one a job, as single senders leave them, and as load at 64 connections leaves them. Beside
it the peers' workers, with one job for each callback, each draining a queue that its own client has filled.
"""

import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from benchmarks import backlog, bodies, command
from benchmarks.command import Run
from benchmarks.contestants import BULLMQ_WORKER, CONSUMER_RIVALS, OTHER_CONSUMERS, Consumer
from benchmarks.deployment import Deployment, MeasurementFailed
from benchmarks.machine import missing
from benchmarks.measurements import OURS, Measurements, percentile

ONE_PER_JOB: Final = "committed one a job"
UNDER_LOAD: Final = "committed under load"
RATE: Final = "callbacks/s"
_TIMEOUT_SECONDS: Final = 120.0


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    peers: dict[str, Callable[[], Measurements]] = {}
    for peer in (*CONSUMER_RIVALS, *(OTHER_CONSUMERS if scale.name == "full" else ())) if run.peers else ():
        if why := peer.absent():
            run.absent[peer.name] = why
        else:
            peers[peer.name] = partial(_peer, peer, scale.slow_callbacks if peer.is_slow else scale.callbacks)
    compared = {name: peer for name, peer in peers.items() if scale.name == "full" or name != BULLMQ_WORKER}
    run.compare(ONE_PER_JOB, {OURS: partial(_one_per_job, scale.callbacks), **compared})
    if why := missing("wrk"):
        run.absent[UNDER_LOAD] = why
        return
    sizes: Counter[int] = Counter()
    rivals = {name: peer for name, peer in peers.items() if name == BULLMQ_WORKER}
    run.compare(UNDER_LOAD, {OURS: partial(_under_load, scale.callbacks, sizes), **rivals})
    run.add_remark(_job_sizes_text(sizes))
    if run.peers:
        run.add_remark(f"Workers that take milliseconds for a job were given {scale.slow_callbacks} callbacks.")


def _one_per_job(callbacks: int) -> Measurements:
    with Deployment() as deployment:
        backlog.fill(deployment.redis, callbacks)
        seconds = backlog.drain(deployment)
    return {RATE: callbacks / seconds, "seconds": seconds}


def _under_load(callbacks: int, sizes: Counter[int]) -> Measurements:
    with Deployment() as deployment:
        stored = backlog.fill_by_load(deployment, callbacks)
        found = backlog.job_sizes(deployment.redis)
        sizes.update(found)
        seconds = backlog.drain(deployment)
    return {RATE: stored / seconds, "callbacks a job": statistics.mean(found), "callbacks": stored, "seconds": seconds}


def _peer(peer: Consumer, callbacks: int) -> Measurements:
    with Deployment() as deployment, tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(bodies.template())
        file.flush()
        environment = {
            "BENCHMARK_CALLBACKS": str(callbacks),
            "BENCHMARK_TEMPLATE": file.name,
            "BENCHMARK_MARK": bodies.NUMBER_MARK,
        }
        filling = deployment.start(f"{peer.name}, filling", peer.fill, environment)
        try:
            if filling.process.wait(_TIMEOUT_SECONDS) != 0:
                raise MeasurementFailed(f"{peer.name} could not fill its queue: {filling.output[-2000:]}")
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"{peer.name} did not fill its queue in {_TIMEOUT_SECONDS:.0f} s") from None
        working = deployment.start(peer.name, peer.work, environment)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not (lines := [line for line in working.output.splitlines() if line.startswith('{"callbacks"')]):
            if working.process.poll() is not None and not working.output.strip().startswith('{"callbacks"'):
                raise MeasurementFailed(f"{peer.name} ended before it was done: {working.output[-2000:]}")
            if time.monotonic() > deadline:
                raise MeasurementFailed(
                    f"{peer.name} was not done after {_TIMEOUT_SECONDS:.0f} s: {working.output[-500:]}"
                )
            time.sleep(0.05)
    return {RATE: float(msgspec.json.decode(lines[-1])["rate"])}


def _job_sizes_text(sizes: Counter[int]) -> str:
    each = sorted(sizes.elements())
    shares = ", ".join(f"{share:.0%} of the jobs up to {percentile(each, share)}" for share in (0.1, 0.5, 0.9))
    return f"Load at 64 connections left {len(each)} jobs of {each[0]} to {each[-1]} callbacks: {shares}."


if __name__ == "__main__":
    command.main("drain", measure, "How fast waiting callbacks are delivered: goals P5 and P6.")
