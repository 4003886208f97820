"""CPU of a callback with 1, 2 and 4 cells, each a Redis with its own web, expand and deliver process.

First each cell gets the same number of callbacks a second, all cells at the same time: a callback that costs the same
with any number of cells is what lets cells on machines of their own add up. Then all are loaded from 64 connections
each, as fast as they answer: what this machine can do, whose cores they share. Last, two cells behind HAProxy with
deploy/haproxy/cells.cfg, without TLS, and 16 URLs: what the proxy itself takes.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final

import msgspec

from benchmarks import command, machine, processor_time, redis_counts, wrk
from benchmarks.command import Run, Scale
from benchmarks.cost import CPU, REDIS_CPU, wait_until_settled
from benchmarks.deployment import REPOSITORY, TOKEN, Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import Measurements
from benchmarks.open_loop import Sent
from callbacks.cli.ports import free_port

TABLE: Final = "a callback, by cells"
PROXIED: Final = "two cells behind HAProxy, 16 URLs"
PROXY_CPU: Final = "CPU of haproxy, µs"
FULL_CPU: Final = "at full load: CPU, µs"
FULL_RATE: Final = "at full load: callbacks/s on these cores"
CELLS: Final = (1, 2, 4)
_URLS: Final = 16
_CONNECTIONS: Final = 64
_TOKENS: Final = ",".join(f"c{number}=benchmark-token-{number:02}" for number in range(_URLS))
# Callbacks a second for each cell; four cells are below what two cores can do.
EQUAL_RATE: Final = 150.0
_PER_SECOND: Final = "callbacks/s"
_WARM_UP_FIRST: Final = 50_000_000_000
_RATE_FIRST: Final = 70_000_000_000
# Each generator sends numbers of its own.
_NUMBERS: Final = 1_000_000_000


def measure(run: Run) -> None:
    """Make the table."""
    if why := machine.missing("wrk"):
        run.absent[TABLE] = why
        return
    points = CELLS[:2] if run.scale.name == "tiny" else CELLS
    contestants: dict[str, Callable[[], Measurements]] = {
        str(number): partial(_cells, run.scale, number) for number in points
    }
    run.compare(TABLE, contestants)
    if why := machine.missing("haproxy"):
        run.absent[PROXIED] = why
    else:
        run.compare(PROXIED, {"HAProxy": partial(_behind_proxy, run.scale)})
    run.add_remark(f"The load generators share the cores with the cells: {FULL_RATE!r} measures this machine.")


def _cells(scale: Scale, number: int) -> Measurements:
    with ExitStack() as stack:
        cells = [_start(stack.enter_context(Deployment())) for _ in range(number)]
        deployments, urls = [deployment for deployment, _ in cells], [url for _, url in cells]
        _measure(deployments, partial(_at_full_speed, urls, _CONNECTIONS, scale.warm_up_seconds, _WARM_UP_FIRST))
        measured = _measure(deployments, partial(_at_rate, urls, EQUAL_RATE, scale.load_seconds, _RATE_FIRST))
        full = _measure(deployments, partial(_at_full_speed, urls, _CONNECTIONS, scale.load_seconds, 0))
        del measured[_PER_SECOND]
        return measured | {FULL_CPU: full[CPU], FULL_RATE: full[_PER_SECOND]}


def _behind_proxy(scale: Scale) -> Measurements:
    with ExitStack() as stack:
        cells = [_start(stack.enter_context(Deployment()), tokens=_TOKENS) for _ in range(2)]
        deployments = [deployment for deployment, _ in cells]
        port = free_port()
        text = (REPOSITORY / "deploy" / "haproxy" / "cells.cfg").read_text()
        text = re.sub(r"bind :443 .*", f"bind 127.0.0.1:{port}", text)
        for written, (_, url) in zip(("127.0.0.1:8080", "127.0.0.1:8090"), cells, strict=True):
            text = text.replace(written, f"127.0.0.1:{url.port}")
        config = deployments[0].folder / "haproxy.cfg"
        config.write_text(text)
        urls = [TargetUrl(port, f"/callbacks/benchmark-token-{number:02}/status") for number in range(_URLS)]
        proxy = deployments[0].start("haproxy", ["haproxy", "-db", "-f", str(config)])
        proxy.wait_until(urls[0].answers, "its first answer")
        connections = 2 * _CONNECTIONS // _URLS
        _measure(deployments, partial(_at_full_speed, urls, connections, scale.warm_up_seconds, _WARM_UP_FIRST))
        return _measure(deployments, partial(_at_full_speed, urls, connections, scale.load_seconds, 0))


def _start(deployment: Deployment, *, tokens: str = f"benchmark={TOKEN}") -> tuple[Deployment, TargetUrl]:
    batch = {"handlers": "benchmarks.several_handlers", "BENCHMARK_HANDLERS": "1", "BENCHMARK_BATCH": "yes"}
    deployment.callbacks("worker", "expand", **batch)
    deployment.callbacks("worker", "deliver", **batch)
    return deployment, deployment.web_process(CALLBACKS_TOKENS=tokens)[0]


def _measure(cells: Sequence[Deployment], load: Callable[[], None]) -> Measurements:
    """Load, wait until all is settled, and divide what it took by the number of callbacks."""
    before = [wait_until_settled(cell.redis) for cell in cells]
    cpu, redis_us = _processes(cells), _redis_us(cells)
    started = time.monotonic()
    load()
    callbacks = sum(wait_until_settled(cell.redis) for cell in cells) - sum(before)
    seconds = time.monotonic() - started
    each = {name: (used - cpu[name]) / callbacks * 1e6 for name, used in _processes(cells).items()}
    each_redis = (_redis_us(cells) - redis_us) / callbacks
    return {
        CPU: sum(each.values()) + each_redis,
        **{f"CPU of {name}, µs": us for name, us in each.items()},
        REDIS_CPU: each_redis,
        _PER_SECOND: callbacks / seconds,
    }


def _at_full_speed(urls: Sequence[TargetUrl], connections: int, seconds: float, first: int) -> None:
    def send(url: TargetUrl, number: int) -> None:
        wrk.load(url, connections=connections, seconds=seconds, first=first + number * _NUMBERS)

    with ThreadPoolExecutor(len(urls)) as generators:
        list(generators.map(send, urls, range(len(urls))))


def _at_rate(urls: Sequence[TargetUrl], rate: float, seconds: float, first: int) -> None:
    def send(url: TargetUrl, number: int) -> None:
        what = (url.port, url.path, rate, seconds, first + number * _NUMBERS)
        command_line = [sys.executable, "-m", "benchmarks.open_loop", *map(str, what)]
        ended = subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if ended.returncode or msgspec.json.decode(ended.stdout, type=Sent).not_200:
            raise MeasurementFailed(f"the load ended badly:\n{ended.stdout}{ended.stderr[-2000:]}")

    with ThreadPoolExecutor(len(urls)) as generators:
        list(generators.map(send, urls, range(len(urls))))


def _processes(cells: Sequence[Deployment]) -> dict[str, float]:
    """Return the processor time of each kind of process, of all cells together."""
    found: dict[str, float] = {}
    for cell in cells:
        for name, seconds in processor_time.by_name(cell).items():
            found[name] = found.get(name, 0.0) + seconds
    return found


def _redis_us(cells: Sequence[Deployment]) -> float:
    return sum(redis_counts.read(cell.redis).cpu_us for cell in cells)


if __name__ == "__main__":
    command.main("cells", measure, "What a callback costs with several cells, and behind a proxy that spreads it.")
