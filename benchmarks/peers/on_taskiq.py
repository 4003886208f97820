"""FastAPI with taskiq on a Redis list.

`python -m benchmarks.peers.on_taskiq fill`, and `taskiq worker` for the work.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from taskiq_redis import ListQueueBroker

from benchmarks.peers.call_counter import bodies, counter

broker = ListQueueBroker(os.environ["REDIS_URL"])


@asynccontextmanager
async def lifespan(_app):
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)


@broker.task(task_name="handle")
async def handle(_body: str) -> None:
    counter.call()


@app.post("/callbacks")
async def receive(request: Request):
    body = await request.body()
    await handle.kiq(body.decode())
    return {"status": "accepted"}


async def fill():
    await broker.startup()
    for text in bodies():
        await handle.kiq(text)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(fill())
