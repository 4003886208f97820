"""FastAPI with arq, which is asyncio throughout.

`python -m benchmarks.peers.on_arq fill | work`
"""

import asyncio
import os
from contextlib import asynccontextmanager

from arq import create_pool, run_worker
from arq.connections import RedisSettings
from fastapi import FastAPI, Request

from benchmarks.peers.call_counter import bodies, command, counter

settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])


@asynccontextmanager
async def lifespan(app):
    app.state.queue = await create_pool(settings)
    yield
    await app.state.queue.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/callbacks")
async def receive(request: Request):
    body = await request.body()
    await request.app.state.queue.enqueue_job("handle", body.decode())
    return {"status": "accepted"}


async def handle(_context, _body):
    counter.call()


class WorkerSettings:
    functions = [handle]  # noqa: RUF012 # arq's own style
    redis_settings = settings


async def fill():
    queue = await create_pool(settings)
    for text in bodies():
        await queue.enqueue_job("handle", text)
    await queue.aclose()


if __name__ == "__main__":
    if command() == "fill":
        asyncio.run(fill())
    else:
        asyncio.set_event_loop(asyncio.new_event_loop())
        run_worker(WorkerSettings)
