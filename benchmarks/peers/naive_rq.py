"""Starlette with `queue.enqueue` in a thread pool, and RQ's own workers: a job for each callback.

`python -m benchmarks.peers.naive_rq fill | work | work-forking`
"""

import json
import os
import time

from redis import Redis
from rq import Queue, SimpleWorker, Worker
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.call_counter import bodies, command, counter

queue = Queue("callbacks", connection=Redis.from_url(os.environ["REDIS_URL"]))


async def receive(request):
    body = await request.body()
    await run_in_threadpool(queue.enqueue, "benchmarks.peers.naive_rq.handle", body.decode())
    return JSONResponse({"status": "accepted"})


app = Starlette(routes=[Route("/callbacks", receive, methods=["POST"])])


def handle(_body):
    counter.call()


if __name__ == "__main__":
    if command() == "fill":
        for text in bodies():
            queue.enqueue("benchmarks.peers.naive_rq.handle", text)
    elif command() == "work":
        SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="ERROR")
    else:
        # Each job runs in a child of its own, so nobody but the parent sees them all.
        started = time.perf_counter()
        Worker([queue], connection=queue.connection).work(burst=True, logging_level="ERROR")
        print(json.dumps({"callbacks": counter.expected, "rate": counter.expected / (time.perf_counter() - started)}))
