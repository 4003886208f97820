"""Starlette with `queue.enqueue` in a thread pool, and RQ's own worker: a job for each callback.

`python -m benchmarks.peers.naive_rq fill | work`: the worker prints its rate from the first call to the last, so that
its start is not held against it.
"""

import json
import os
import sys
import time
from pathlib import Path

from redis import Redis
from rq import Queue, SimpleWorker
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

_HANDLE = "benchmarks.peers.naive_rq.handle"
expected = int(os.environ.get("BENCHMARK_CALLBACKS", "0"))
queue = Queue("callbacks", connection=Redis.from_url(os.environ["REDIS_URL"]))
called_at = []


async def receive(request):
    body = await request.body()
    await run_in_threadpool(queue.enqueue, _HANDLE, body.decode())
    return JSONResponse({"status": "accepted"})


app = Starlette(routes=[Route("/callbacks", receive, methods=["POST"])])


def handle(_body):
    called_at.append(time.perf_counter())
    if len(called_at) == expected:
        rate = (expected - 1) / (called_at[-1] - called_at[0])
        print(json.dumps({"callbacks": expected, "rate": rate}), flush=True)


def fill():
    template = Path(os.environ["BENCHMARK_TEMPLATE"]).read_text()
    mark = os.environ["BENCHMARK_MARK"]
    for number in range(expected):
        queue.enqueue(_HANDLE, template.replace(mark, f"{number:0{len(mark)}d}"))


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill()
    else:
        SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="ERROR")
