"""Who takes part in the comparisons: how its server and worker start, and where its callbacks wait in Redis.

All run one server process on uvicorn (uvloop, httptools, no access log) or node, on a Redis of the same durability.
The no-op and plain RQ use the product's own packages.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from benchmarks import bodies, machine
from benchmarks.deployment import REPOSITORY, Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import OURS
from callbacks.cli.ports import free_port
from shared import audit

NODE: Final = REPOSITORY / "benchmarks" / "peers" / "node"
_MOMENT_SECONDS: Final = 0.3


class Contestant(Struct, frozen=True, kw_only=True):
    """A server to be measured. `stored` counts the callbacks in its Redis; None where nothing is kept at all."""

    name: str
    start: Callable[[Deployment], TargetUrl]
    stored: Callable[[Any], int] | None
    absent: Callable[[], str] = lambda: ""


class Consumer(Struct, frozen=True, kw_only=True):
    """A peer's worker: with `fill` its program fills its own queue, with `work` it drains it and prints the rate.

    It takes the number of callbacks and the file of a body's template from the environment.
    """

    name: str
    command: Sequence[str]
    absent: Callable[[], str] = lambda: ""


def count_stored(contestant: Contestant, deployment: Deployment) -> int:
    """Count the callbacks in the contestant's Redis, a moment after the load: what was under way arrives meanwhile."""
    if contestant.stored is None:
        return 0
    time.sleep(_MOMENT_SECONDS)
    return contestant.stored(deployment.redis)


def check_stored(
    contestant: Contestant, deployment: Deployment, *, before: int, requests: int, connections: int
) -> None:
    """Raise MeasurementFailed unless Redis has all that was answered, and no more than that and what was under way."""
    if contestant.stored is None:
        return
    stored = count_stored(contestant, deployment) - before
    if not requests <= stored <= requests + connections:
        raise MeasurementFailed(f"{contestant.name}: {requests} callbacks were acknowledged, and Redis has {stored}")


def _uvicorn(application: str) -> Callable[[Deployment], TargetUrl]:
    def start(deployment: Deployment) -> TargetUrl:
        url = TargetUrl(free_port())
        command = [sys.executable, "-m", "uvicorn", f"benchmarks.peers.{application}", "--port", str(url.port)]
        command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        deployment.serve(application, command, url)
        return url

    return start


def _node(deployment: Deployment) -> TargetUrl:
    url = TargetUrl(free_port())
    deployment.serve("Fastify", ["node", str(NODE / "server.js"), str(url.port)], url)
    return url


def _received(redis: Any) -> int:
    received, left_over = divmod(audit.run(redis).received, bodies.REPORTS)
    if left_over:
        raise MeasurementFailed(f"{left_over} reports belong to no whole callback")
    return received


def _no_node() -> str:
    if missing := machine.missing("node"):
        return missing
    return "" if (NODE / "node_modules" / "bullmq").is_dir() else "its packages are not installed: make bench-peers"


def _length(key: str) -> Callable[[Any], int]:
    return lambda redis: int(redis.llen(key))


OURSELVES: Final = Contestant(name=OURS, start=Deployment.web, stored=_received)
NO_OP: Final = Contestant(name="Starlette no-op", start=_uvicorn("no_op:starlette"), stored=None)
NAIVE_RQ: Final = Contestant(name="naive RQ", start=_uvicorn("naive_rq:app"), stored=_length("rq:queue:callbacks"))
BULLMQ: Final = Contestant(name="Fastify + BullMQ", start=_node, stored=_length("bull:callbacks:wait"), absent=_no_node)
SIMPLE_WORKER: Final = Consumer(name="RQ SimpleWorker", command=(sys.executable, "-m", "benchmarks.peers.naive_rq"))
BULLMQ_WORKER: Final = Consumer(
    name="BullMQ, concurrency 50", command=("node", str(NODE / "drain.js")), absent=_no_node
)
