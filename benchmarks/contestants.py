"""Who takes part in the comparisons: how its server and worker start, and where its callbacks wait in Redis.

All run one server process on uvicorn (uvloop, httptools, no access log) or node, on a Redis of the same durability.
The no-ops and plain RQ use the product's own packages, the other peers those of benchmarks/.venv.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from benchmarks import bodies, machine
from benchmarks.deployment import REPOSITORY, Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import OURS
from callbacks.cli.ports import free_port
from shared import audit

PEERS: Final = REPOSITORY / "benchmarks" / "peers"
PYTHON: Final = REPOSITORY / "benchmarks" / ".venv" / "bin" / "python"
NODE: Final = PEERS / "node"
INSTALL: Final = "python -m benchmarks.peers.install"
_MOMENT_SECONDS: Final = 0.3

STARLETTE: Final = "Starlette no-op"
RAW: Final = "raw ASGI no-op"
NAIVE_RQ: Final = "naive RQ"
BULLMQ: Final = "Fastify + BullMQ"


class Contestant(Struct, frozen=True, kw_only=True):
    """A server to be measured. `kept` counts the callbacks in its Redis; None where nothing is kept at all."""

    name: str
    start: Callable[[Deployment], TargetUrl]
    stored: Callable[[Any], int] | None
    absent: Callable[[], str] = lambda: ""


class Consumer(Struct, frozen=True, kw_only=True):
    """A peer's worker: a program that fills its own queue with callbacks, and one that drains it and prints the rate.

    Both take the number of callbacks and the file of a body's template.
    """

    name: str
    fill: Sequence[str]
    work: Sequence[str]
    absent: Callable[[], str] = lambda: ""
    is_slow: bool = False


def count_stored(contestant: Contestant, deployment: Deployment) -> int:
    """Count the callbacks in the contestant's Redis, a moment after the load: what was under way arrives meanwhile."""
    if contestant.stored is None:
        return 0
    time.sleep(_MOMENT_SECONDS)
    return contestant.stored(deployment.redis)


def check_stored(
    contestant: Contestant, deployment: Deployment, *, before: int, requests: int, connections: int
) -> None:
    """Raise Failed unless all that was answered is in Redis, and no more than what was under way at the end beside."""
    if contestant.stored is None:
        return
    stored = count_stored(contestant, deployment) - before
    if not requests <= stored <= requests + connections:
        raise MeasurementFailed(f"{contestant.name}: {requests} callbacks were acknowledged, and Redis has {stored}")


def _uvicorn(python: str | Path, application: str) -> Callable[[Deployment], TargetUrl]:
    def start(deployment: Deployment) -> TargetUrl:
        url = TargetUrl(free_port())
        command = [str(python), "-m", "uvicorn", f"benchmarks.peers.{application}", "--port", str(url.port)]
        process = deployment.start(
            application,
            [*command, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"],
        )
        process.wait_until(url.answers, "its first answer")
        return url

    return start


def _node(deployment: Deployment) -> TargetUrl:
    url = TargetUrl(free_port())
    deployment.start("Fastify", ["node", str(NODE / "server.js"), str(url.port)]).wait_until(
        url.answers, "its first answer"
    )
    return url


def _received(redis: Any) -> int:
    received, left_over = divmod(audit.run(redis).received, bodies.REPORTS)
    if left_over:
        raise MeasurementFailed(f"{left_over} reports beside whole callbacks")
    return received


def _no_packages() -> str:
    return "" if PYTHON.exists() else f"its packages are not installed: {INSTALL}"


def _no_node() -> str:
    if missing := machine.missing("node"):
        return missing
    return "" if (NODE / "node_modules" / "bullmq").is_dir() else f"its packages are not installed: {INSTALL}"


def _length(key: str) -> Callable[[Any], int]:
    return lambda redis: int(redis.llen(key))


OURSELVES: Final = Contestant(name=OURS, start=Deployment.web, stored=_received)
NO_OP: Final = Contestant(name=STARLETTE, start=_uvicorn(sys.executable, "no_op:starlette"), stored=None)
BASELINES: Final = (
    NO_OP,
    Contestant(name=RAW, start=_uvicorn(sys.executable, "no_op:raw"), stored=None),
)
SERVER_OF_BULLMQ: Final = Contestant(name=BULLMQ, start=_node, stored=_length("bull:callbacks:wait"), absent=_no_node)
# What the goals are held against.
RIVALS: Final = (
    Contestant(name=NAIVE_RQ, start=_uvicorn(sys.executable, "naive_rq:app"), stored=_length("rq:queue:callbacks")),
    SERVER_OF_BULLMQ,
)
OTHERS: Final = (
    Contestant(
        name="FastAPI + Celery",
        start=_uvicorn(PYTHON, "on_celery:app"),
        stored=_length("celery"),
        absent=_no_packages,
    ),
    Contestant(
        name="FastAPI + arq",
        start=_uvicorn(PYTHON, "on_arq:app"),
        stored=lambda redis: int(redis.zcard("arq:queue")),
        absent=_no_packages,
    ),
    Contestant(
        name="FastAPI + taskiq",
        start=_uvicorn(PYTHON, "on_taskiq:app"),
        stored=_length("taskiq"),
        absent=_no_packages,
    ),
    Contestant(
        name="FastAPI + dramatiq",
        start=_uvicorn(PYTHON, "on_dramatiq:app"),
        stored=_length("dramatiq:default"),
        absent=_no_packages,
    ),
    Contestant(
        name="FastAPI + saq",
        start=_uvicorn(PYTHON, "on_saq:app"),
        stored=_length("saq:callbacks:queued"),
        absent=_no_packages,
    ),
)


def _python_consumer(name: str, module: str, *, python: str | Path = PYTHON, is_slow: bool = False) -> Consumer:
    start = [str(python), "-m", f"benchmarks.peers.{module}"]
    return Consumer(
        name=name,
        fill=[*start, "fill"],
        work=[*start, "work"],
        absent=_no_packages if python == PYTHON else lambda: "",
        is_slow=is_slow,
    )


_TASKIQ: Final = (str(PYTHON), "-m", "taskiq")
SIMPLE_WORKER: Final = "RQ SimpleWorker"
FORKING_WORKER: Final = "RQ worker, forking"
BULLMQ_WORKER: Final = "BullMQ, concurrency 50"
CONSUMER_RIVALS: Final = (
    _python_consumer(SIMPLE_WORKER, "naive_rq", python=sys.executable, is_slow=True),
    Consumer(
        name=BULLMQ_WORKER,
        fill=["node", str(NODE / "drain.js"), "fill"],
        work=["node", str(NODE / "drain.js"), "work"],
        absent=_no_node,
    ),
)
OTHER_CONSUMERS: Final = (
    Consumer(
        name=FORKING_WORKER,
        fill=[sys.executable, "-m", "benchmarks.peers.naive_rq", "fill"],
        work=[sys.executable, "-m", "benchmarks.peers.naive_rq", "work-forking"],
        is_slow=True,
    ),
    _python_consumer("Celery, one process", "on_celery", is_slow=True),
    _python_consumer("arq", "on_arq", is_slow=True),
    Consumer(
        name="taskiq, one process",
        fill=[str(PYTHON), "-m", "benchmarks.peers.on_taskiq", "fill"],
        work=[*_TASKIQ, "worker", "benchmarks.peers.on_taskiq:broker", "--workers", "1", "--log-level", "ERROR"],
        absent=_no_packages,
    ),
    Consumer(
        name="dramatiq, one process of 8 threads",
        fill=[str(PYTHON), "-m", "benchmarks.peers.on_dramatiq", "fill"],
        work=[str(PYTHON), "-m", "dramatiq", "benchmarks.peers.on_dramatiq", "--processes", "1", "--threads", "8"],
        absent=_no_packages,
    ),
    Consumer(
        name="saq",
        fill=[str(PYTHON), "-m", "benchmarks.peers.on_saq", "fill"],
        work=[str(PYTHON), "-m", "saq", "benchmarks.peers.on_saq.settings"],
        absent=_no_packages,
    ),
)
