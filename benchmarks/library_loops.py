"""What a newcomer would write with each handler's library, and the handler itself, over the same events.

`python -m benchmarks.library_loops loop|handler NAME EVENTS A_BATCH` prints how many events a second it took. The loops
have the handlers' batches and put the same bytes to the same place; they know neither repeated events nor trouble.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import redis
from sqlalchemy import func, insert, select

from benchmarks import bodies
from benchmarks.deployment import MeasurementFailed
from callbacks import Event, ReportEvent
from shared import callback_events, wire
from shared.disk import sync_data
from workers import registry
from workers.deliver.call.caller import Caller
from workers.handlers.sql import schema, tables
from workers.handlers.sql.database_url import DatabaseUrl, open_engine
from workers.runtime.outcome import Done

CONCURRENCY: Final = 32
MAXLEN: Final = 1_000_000
_STATUS: Final = (
    "message_id", "status", "is_final", "channel", "occurred_at", "received_at", "error_code", "api_job_id",
    "client_job_id", "client_message_id", "recipient", "sender", "source",
)  # fmt: skip
_MESSAGE: Final = tuple(name for name in _STATUS if name not in ("occurred_at", "received_at"))


def stream(batches: Sequence[Sequence[ReportEvent]]) -> None:
    """Add each batch with one pipeline of XADDs."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    for batch in batches:
        with client.pipeline(transaction=False) as pipe:
            for event in batch:
                entry: dict[Any, Any] = {"id": event.id, "kind": event.kind, "event": event.to_json()}
                pipe.xadd("callbacks", entry, maxlen=MAXLEN, approximate=True)
            pipe.execute()


def jsonl(batches: Sequence[Sequence[ReportEvent]]) -> None:
    """Write each batch to one file, and sync."""
    folder = Path(os.environ["CALLBACKS_JSONL_DIR"])
    folder.mkdir(parents=True)
    with (folder / "events-loop.jsonl").open("ab", buffering=0) as file:
        for batch in batches:
            file.write("".join(event.to_json() + "\n" for event in batch).encode())
            sync_data(file.fileno())


def sql(batches: Sequence[Sequence[ReportEvent]]) -> None:
    """Insert the rows of each batch with two executemany: each status, and each message."""
    engine = open_engine(DatabaseUrl.parse(os.environ["DATABASE_URL"]))
    schema.prepare(engine)
    for batch in batches:
        statuses = [
            {name: getattr(event, name) for name in _STATUS} | {"event_id": event.id, "raw": json.dumps(event.raw)}
            for event in batch
        ]
        messages = [
            {name: getattr(event, name) for name in _MESSAGE}
            | {"status_at": event.occurred_at, "accepted_at": None, "delivered_at": event.occurred_at}
            | {"first_at": event.occurred_at, "last_at": event.occurred_at, "status_rank": event.status}
            | {"first_received_at": event.received_at, "last_received_at": event.received_at}
            for event in batch
        ]
        with engine.begin() as connection:
            connection.execute(insert(tables.statuses), statuses)
            connection.execute(insert(tables.messages), messages)
    engine.dispose()


def forward(batches: Sequence[Sequence[ReportEvent]]) -> None:
    """Post each event, as many at once as the handler does."""
    asyncio.run(_post_all([event for batch in batches for event in batch]))


async def _post_all(reports: Sequence[ReportEvent]) -> None:
    waiting = iter(reports)
    async with httpx.AsyncClient(trust_env=False) as client:

        async def post() -> None:
            for event in waiting:
                answer = await client.post(
                    os.environ["CALLBACKS_FORWARD_URL"],
                    content=event.to_json(),
                    headers={"content-type": "application/json"},
                )
                answer.raise_for_status()

        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))


LOOPS: Final = {loop.__name__: loop for loop in (stream, jsonl, sql, forward)}


def _handler_run(name: str, batches: Sequence[Sequence[Event]]) -> Callable[[], None]:
    (handler,) = registry.load([name])

    def run() -> None:
        with Caller(handler) as caller:
            for batch in batches:
                for _, outcome in caller.call(batch):
                    if not isinstance(outcome, Done):
                        raise MeasurementFailed(f"{name}: {outcome}")

    return run


def _count_stored(name: str) -> int:
    """Return how many events were stored."""
    if name == "stream":
        return int(redis.Redis.from_url(os.environ["REDIS_URL"]).xlen("callbacks"))
    if name == "jsonl":
        files = Path(os.environ["CALLBACKS_JSONL_DIR"]).glob("events-*.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in files)
    with open_engine(DatabaseUrl.parse(os.environ["DATABASE_URL"])).connect() as connection:
        counts = {connection.scalar(select(func.count()).select_from(t)) for t in (tables.statuses, tables.messages)}
    return int(counts.pop() or 0) if len(counts) == 1 else -1


def main() -> None:
    side, name, number, a_batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    received_at = datetime.now(UTC)
    reports = [
        event
        for each in range(number)
        for event in callback_events.from_callback(
            wire.read(bodies.body(each, reports=1), None), source="benchmark", received_at=received_at
        )
        if isinstance(event, ReportEvent)
    ]
    batches = [reports[first : first + a_batch] for first in range(0, number, a_batch)]
    run = _handler_run(name, batches) if side == "handler" else lambda: LOOPS[name](batches)
    started = time.monotonic()
    run()
    seconds = time.monotonic() - started
    if name != "forward" and (stored := _count_stored(name)) != number:
        raise MeasurementFailed(f"{side} {name}: {stored} of {number} events are there")
    print(json.dumps({"events/s": number / seconds}))


if __name__ == "__main__":
    main()
