"""FastAPI with saq, which is asyncio throughout.

`python -m benchmarks.peers.on_saq fill`, and `saq` for the work.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from saq import Queue

from benchmarks.peers.call_counter import bodies, counter

queue = Queue.from_url(os.environ["REDIS_URL"], name="callbacks")


@asynccontextmanager
async def lifespan(_app):
    await queue.connect()
    yield
    await queue.disconnect()


app = FastAPI(lifespan=lifespan)


@app.post("/callbacks")
async def receive(request: Request):
    body = await request.body()
    await queue.enqueue("handle", body=body.decode())
    return {"status": "accepted"}


async def handle(_context, **_fields):
    counter.call()


settings = {"queue": queue, "functions": [handle]}


async def fill():
    await queue.connect()
    for text in bodies():
        await queue.enqueue("handle", body=text)
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(fill())
