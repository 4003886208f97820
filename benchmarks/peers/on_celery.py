"""FastAPI with Celery: `delay` in a thread pool, as it blocks; a prefork worker with one process.

`python -m benchmarks.peers.on_celery fill | work`
"""

import os

from celery import Celery
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.call_counter import bodies, command, counter

queue = Celery("benchmarks.peers.on_celery", broker=os.environ["REDIS_URL"])
queue.conf.task_ignore_result = True
app = FastAPI()


@queue.task(name="handle")
def handle(_body):
    counter.call()


@app.post("/callbacks")
async def receive(request: Request):
    body = await request.body()
    await run_in_threadpool(handle.delay, body.decode())
    return {"status": "accepted"}


if __name__ == "__main__":
    if command() == "fill":
        for text in bodies():
            handle.delay(text)
    else:
        queue.worker_main(["worker", "--concurrency=1", "--loglevel=ERROR"])
