"""FastAPI with dramatiq: `send` in a thread pool, as it blocks.

`python -m benchmarks.peers.on_dramatiq fill`, and `dramatiq` for the work.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.call_counter import bodies, counter

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
app = FastAPI()


@dramatiq.actor
def handle(_body):
    counter.call()


@app.post("/callbacks")
async def receive(request: Request):
    body = await request.body()
    await run_in_threadpool(handle.send, body.decode())
    return {"status": "accepted"}


if __name__ == "__main__":
    for text in bodies():
        handle.send(text)
