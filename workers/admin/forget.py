"""Remove what Redis knows of a handler that was removed (`callbacks handlers forget`), in one step.

Nothing is removed while a worker may run it, or events are in its queue. Its dead letters stay.
"""

from typing import Any

import redis
from rq.utils import as_text

from shared import keys, last_times, queues
from shared.counted import counted
from shared.errors import CallbacksError
from shared.metrics import SEPARATOR
from workers.admin import handler_states, queue_state
from workers.runtime import scripts


class NotForgotten(CallbacksError):
    """A worker may run the handler, or events wait for it."""


def known_names(connection: redis.Redis) -> list[str]:
    """Return the names of the handlers of which Redis knows anything. Raise redis.RedisError."""
    subscribed = map(as_text, connection.hkeys(keys.SUBSCRIPTIONS))
    return sorted({*handler_states.known_names(connection), *subscribed})


def forget(connection: redis.Redis, handler: str) -> None:
    """Forget a handler. Raise NotForgotten, with what to do first, and redis.RedisError."""
    queue = queues.delivery_queue(handler)
    script: Any = connection.register_script(scripts.load("allow_oom", "types", "arguments", "admin/forget"))
    reply = script(
        keys=[
            *(keys.COUNTS, keys.SUBSCRIPTIONS, keys.FILTERS, keys.METRICS, keys.paused(handler)),
            *(keys.RQ_QUEUES, keys.rq_queue(queue), keys.rq_workers(queue), keys.rq_workers(queues.EXPAND)),
            keys.SEEN,
            *(keys.rq_queue(queue), keys.rq_intermediate(queue), keys.rq_started(queue)),
            *(keys.rq_scheduled(queue), keys.rq_failed(queue)),
        ],
        args=[handler, SEPARATOR, " ".join(last_times.HANDLER_METRICS)],
    )
    reason = as_text(reply)
    if reason == "jobs":
        raise NotForgotten(_describe_queue(connection, handler))
    if reason == "workers":
        raise NotForgotten(f"a worker runs {handler!r}: stop it, or restart the workers without it, then try again")
    if reason == "subscribed":
        raise NotForgotten(
            f"expand workers have {handler!r} in their CALLBACKS_HANDLERS: restart them without it, then try again"
        )


def _describe_queue(connection: redis.Redis, handler: str) -> str:
    state = queue_state.read_state(connection, handler)
    return (
        f"{handler!r} has {counted(state.waiting, 'event')} waiting, {state.scheduled:,} scheduled for a retry and "
        f"{state.running:,} in flight: discard them with `callbacks handlers purge {handler}`, or start "
        "`callbacks worker deliver` with it to deliver them"
    )
