"""What a waiting callback, and a remembered event, take in Redis; and whether all of it is given back. Goal P9.

Redis's used_memory without its clients' and its file's buffers, before and after. Everything is measured on one
server that has drained a little before, so that scripts, queues and counters are there from the beginning.
"""

import time
from typing import Any, Final

from benchmarks import backlog, bodies, command
from benchmarks.command import Run
from benchmarks.machine import missing
from benchmarks.measurements import OURS, Figures
from benchmarks.stage import Failed, Stage
from shared import keys

TABLE: Final = "memory"
_BODY_BYTES: Final = len(bodies.body(0))
_FIRST_DRAIN: Final = 50
_SCAN: Final = 5_000
# Redis shrinks its tables in the background, a hundred times a second at the most.
_STILL_SECONDS: Final = 0.5
_STILL_BYTES: Final = 1024
_PATIENCE_SECONDS: Final = 60.0


def measure(run: Run) -> None:
    """Make the table."""
    if why := missing("wrk"):
        run.absent["committed under load"] = why
    run.compare(TABLE, {OURS: lambda: _memory(run.scale.callbacks)}, repetitions=min(2, run.scale.long_repetitions))
    run.note(
        f"A body has {_BODY_BYTES} bytes and {bodies.REPORTS} reports. 'given back' is what remains beside the start "
        "when all is delivered and the marks of the remembered events have expired (here: are deleted)."
    )


def _memory(callbacks: int) -> Figures:
    with Stage() as stage:
        redis = stage.redis
        backlog.fill(redis, _FIRST_DRAIN)
        backlog.drain(stage)
        _forget(redis)
        start = _used(redis)
        backlog.fill(redis, callbacks)
        alone = _used(redis)
        backlog.drain(stage)
        drained = _used(redis)
        events = _forget(redis)
        if events != callbacks * bodies.REPORTS:
            raise Failed(f"{callbacks * bodies.REPORTS} events were to be remembered, {events} are")
        end = _used(redis)
        figures = {
            "alone, bytes a callback": (alone - start) / callbacks,
            "alone, x its body": (alone - start) / callbacks / _BODY_BYTES,
            "remembered, bytes an event": (drained - end) / events,
            "not given back, bytes": end - start,
            "not given back, % of the most": (end - start) / (alone - start) * 100,
        }
        if not missing("wrk"):
            kept = backlog.fill_by_load(stage, callbacks)
            loaded = _used(redis)
            figures["under load, bytes a callback"] = (loaded - end) / kept
            figures["under load, x its body"] = (loaded - end) / kept / _BODY_BYTES
            figures["under load, callbacks"] = kept
    return figures


def _used(redis: Any) -> int:
    """Give what the data take, once it does not change any more."""
    before, deadline = -1, time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_STILL_SECONDS)
        info = redis.info("memory")
        used = int(info["used_memory"]) - int(info["mem_clients_normal"]) - int(info.get("mem_aof_buffer", 0))
        if abs(used - before) <= _STILL_BYTES:
            return used
        before = used
    raise Failed("Redis's memory does not come to rest")


def _forget(redis: Any) -> int:
    """Delete the marks of all events seen, as time would; give how many there were."""
    forgotten = 0
    cursor = None
    while cursor != 0:
        cursor, found = redis.scan(cursor or 0, match=f"{keys.SEEN_PREFIX}*", count=_SCAN)
        if found:
            forgotten += redis.delete(*found)
    return forgotten


if __name__ == "__main__":
    command.main("memory", measure, "What waiting callbacks and remembered events take in Redis: goal P9.")
