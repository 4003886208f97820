"""The loops that keep failing, of every process that pushes metrics to one Redis (see `shared.background`)."""

from collections.abc import Mapping
from typing import Any

import orjson
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys
from shared.metrics_push import STATE_SECONDS


class FailingLoop(Struct, frozen=True):
    """A loop of a process ("host:pid") that keeps failing with errors of this type; see `shared.background`."""

    process: str
    loop: str
    error: str


def list_failing_loops(connection: redis.Redis) -> list[FailingLoop]:
    """Return the loops that keep failing, of all processes that reported within 15 seconds. Raise redis.RedisError."""
    client: Any = connection
    seconds, _ = client.time()
    names = client.zrangebyscore(keys.METRICS_PROCESSES, seconds - STATE_SECONDS, "+inf")
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(keys.metrics_of(as_text(name)), "state")
        states = pipe.execute()
    return [found for state in filter(None, states) for found in parse_failing_loops(orjson.loads(state))]


def parse_failing_loops(state: Mapping[str, Any]) -> list[FailingLoop]:
    """Return the loops that keep failing, as a process's state names them."""
    process = str(state.get("process", ""))
    return [FailingLoop(process, str(loop), str(error)) for loop, error in dict(state.get("failing", {})).items()]
