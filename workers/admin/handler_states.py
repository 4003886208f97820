"""The state of every handler: of those in the catalog, and of removed ones that Redis still knows."""

from collections.abc import Sequence

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, last_times, queues
from shared.last_times import LastTimes
from workers.admin import queue_state
from workers.admin.handler_catalog import CatalogEntry
from workers.admin.queue_state import QueueState
from workers.expand import subscriptions
from workers.expand.subscriptions import Subscriptions
from workers.failures import failure_list
from workers.runtime import pause
from workers.runtime.pause import PauseState

_DELIVER: str = queues.delivery_queue("")


class HandlerState(Struct, frozen=True, kw_only=True):
    """What Redis has about one handler; `last` is when it last delivered, retried and gave up."""

    handler: str
    queue: QueueState
    pause_state: PauseState | None
    subscription: Subscriptions | None
    last: LastTimes = LastTimes()


def read_states(connection: redis.Redis, found: Sequence[CatalogEntry]) -> list[HandlerState]:
    """Return the state of the handlers found, then of the others that Redis knows. Raise redis.RedisError."""
    names = [one.handler.name for one in found if one.handler is not None]
    others = set(known_names(connection)) - set(names)
    return [
        HandlerState(
            handler=name,
            queue=queue_state.read_state(connection, name),
            pause_state=pause.read_state(connection, name),
            subscription=subscriptions.find(connection, name),
            last=_last_times(connection, name),
        )
        for name in (*dict.fromkeys(names), *sorted(others))
    ]


def _last_times(connection: redis.Redis, name: str) -> LastTimes:
    return last_times.parse_handler(connection.hmget(keys.METRICS, last_times.handler_names(name)))


def known_names(connection: redis.Redis) -> list[str]:
    """Return the names of the handlers that have a counter or a queue in Redis. Raise redis.RedisError."""
    names = set(failure_list.handler_names(connection))
    prefix = keys.rq_queue(_DELIVER)
    for queue in connection.smembers(keys.RQ_QUEUES):
        if as_text(queue).startswith(prefix):
            names.add(as_text(queue).removeprefix(prefix))
    return sorted(names)
