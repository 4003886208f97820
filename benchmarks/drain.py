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
from benchmarks.machine import missing
from benchmarks.measurements import OURS, Figures, percentile
from benchmarks.stage import Failed, Stage

ALONE: Final = "committed one a job"
UNDER_LOAD: Final = "committed under load"
RATE: Final = "callbacks/s"
_PATIENCE_SECONDS: Final = 120.0


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    peers: dict[str, Callable[[], Figures]] = {}
    for peer in (*CONSUMER_RIVALS, *(OTHER_CONSUMERS if scale.name == "full" else ())) if run.peers else ():
        if why := peer.absent():
            run.absent[peer.name] = why
        else:
            peers[peer.name] = partial(_peer, peer, scale.slow_callbacks if peer.is_slow else scale.callbacks)
    beside = {name: peer for name, peer in peers.items() if scale.name == "full" or name != BULLMQ_WORKER}
    run.compare(ALONE, {OURS: partial(_alone, scale.callbacks), **beside})
    if why := missing("wrk"):
        run.absent[UNDER_LOAD] = why
        return
    sizes: Counter[int] = Counter()
    rivals = {name: peer for name, peer in peers.items() if name == BULLMQ_WORKER}
    run.compare(UNDER_LOAD, {OURS: partial(_under_load, scale.callbacks, sizes), **rivals})
    run.note(_told(sizes))
    if run.peers:
        run.note(f"Workers that take milliseconds for a job were given {scale.slow_callbacks} callbacks.")


def _alone(callbacks: int) -> Figures:
    with Stage() as stage:
        backlog.fill(stage.redis, callbacks)
        seconds = backlog.drain(stage)
    return {RATE: callbacks / seconds, "seconds": seconds}


def _under_load(callbacks: int, sizes: Counter[int]) -> Figures:
    with Stage() as stage:
        kept = backlog.fill_by_load(stage, callbacks)
        found = backlog.job_sizes(stage.redis)
        sizes.update(found)
        seconds = backlog.drain(stage)
    return {RATE: kept / seconds, "callbacks a job": statistics.mean(found), "callbacks": kept, "seconds": seconds}


def _peer(peer: Consumer, callbacks: int) -> Figures:
    with Stage() as stage, tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(bodies.template())
        file.flush()
        environment = {
            "BENCHMARK_CALLBACKS": str(callbacks),
            "BENCHMARK_TEMPLATE": file.name,
            "BENCHMARK_MARK": bodies.NUMBER_MARK,
        }
        filling = stage.start(f"{peer.name}, filling", peer.fill, environment)
        try:
            if filling.process.wait(_PATIENCE_SECONDS) != 0:
                raise Failed(f"{peer.name} could not fill its queue: {filling.output[-2000:]}")
        except subprocess.TimeoutExpired:
            raise Failed(f"{peer.name} did not fill its queue in {_PATIENCE_SECONDS:.0f} s") from None
        working = stage.start(peer.name, peer.work, environment)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (told := [line for line in working.output.splitlines() if line.startswith('{"callbacks"')]):
            if working.process.poll() is not None and not working.output.strip().startswith('{"callbacks"'):
                raise Failed(f"{peer.name} ended before it was done: {working.output[-2000:]}")
            if time.monotonic() > deadline:
                raise Failed(f"{peer.name} was not done after {_PATIENCE_SECONDS:.0f} s: {working.output[-500:]}")
            time.sleep(0.05)
    return {RATE: float(msgspec.json.decode(told[-1])["rate"])}


def _told(sizes: Counter[int]) -> str:
    each = sorted(sizes.elements())
    shares = ", ".join(f"{share:.0%} of the jobs up to {percentile(each, share)}" for share in (0.1, 0.5, 0.9))
    return f"Load at 64 connections left {len(each)} jobs of {each[0]} to {each[-1]} callbacks: {shares}."


if __name__ == "__main__":
    command.main("drain", measure, "How fast waiting callbacks are delivered: goals P5 and P6.")
