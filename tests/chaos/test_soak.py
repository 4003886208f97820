"""A steady load for a while: no process grows, and Redis gives back what each callback took.

`make soak` goes on for twenty minutes (SOAK_SECONDS); inside `make test` it is a rehearsal. The figures are one line of
JSON: medians of the second and the last third of the run, in MiB, the first third being for warming up.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import redis as redis_client

from shared import keys
from tests.acceptance.processes import Running, get, started
from tests.chaos import campaign
from tests.forkserver import children
from tests.memory import proportional_mib, resident_mib
from tests.redis_server import RedisServer, free_port

SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
CALLBACKS_A_SECOND = 200
# Long enough to fill Redis with marks, short enough that as many come as go after the first third.
DEDUPE_SECONDS = max(2, int(SECONDS / 12))
SAMPLE_SECONDS = max(0.5, SECONDS / 100)
# Between the middles of the last two thirds of twenty minutes lie 80,000 callbacks: a hundred bytes lost with each
# are 8 MiB. What the allocator and the collector of a healthy process add is less than this.
GROWTH_MIB = 5.0
GROWTH_SHARE = 0.05
# A backlog of half a second may stand in Redis or not when a sample is taken.
REDIS_GROWTH_MIB = 3.0
# Clients' buffers, and hash tables that shrink in their own time.
REDIS_LEFT_MIB = 1.0
REST_SECONDS = 120.0
# What stays beside these stays by design: counters, and what RQ knows of queues and workers.
OF_CALLBACKS = (b"cb:seen", b"cb:coalesced:", b"cb:events", b"rq:job:")
# 2.6 reports for each destination, two in a callback, and a reply for each twentieth, a twentieth of them sent again;
# a tenth of all callbacks are sent twice: (2.6 / 2 + 1.05 / 20) * 1.1.
CALLBACKS_A_DESTINATION = 1.49


def test_memory_is_flat_under_a_steady_load_and_redis_gives_back_all_of_it(
    tmp_path: Path, start_redis: Callable[..., RedisServer], record_property: Callable[[str, object], None]
) -> None:
    redis, port = start_redis(), free_port()
    environment = campaign.environment(
        redis.url,
        port,
        CALLBACKS_DEDUPE_SECONDS=str(DEDUPE_SECONDS),
        CALLBACKS_LOG_FILE=str(tmp_path / "events.jsonl"),
    )
    with started(tmp_path, environment, forked=False) as start, redis.client(decode_responses=False) as client:
        parts = {"web": start("web"), "expand": start("worker", "expand"), "deliver": start("worker", "deliver")}
        parts["web"].until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "/readyz")
        _load(start, port, destinations=50, seed=1).wait()
        campaign.rest(redis, port)
        names, redis_before_mib = _redis_state(client)
        watched = _pids(parts) | {"redis": redis.pid}

        gateway = _load(start, port, destinations=int(SECONDS * CALLBACKS_A_SECOND / CALLBACKS_A_DESTINATION), seed=2)
        samples: list[dict[str, float]] = []
        while gateway.process.poll() is None:
            samples.append({name: resident_mib(pid) for name, pid in watched.items()} | {"used": _redis_mib(client)})
            shares = {name: round(proportional_mib(pid), 1) for name, pid in watched.items()}
            time.sleep(SAMPLE_SECONDS)
        assert gateway.wait() == 0, gateway.output
        sums = campaign.rest(redis, port)
        left, redis_after_mib = _redis_state(client, like=(names, redis_before_mib))
        still = _pids(parts) | {"redis": redis.pid}

    third = len(samples) // 3
    second, last = (
        {name: statistics.median(sample[name] for sample in part) for name in samples[0]}
        for part in (samples[third : 2 * third], samples[2 * third :])
    )
    totals: dict[str, object] = {
        "seconds": SECONDS,
        "samples": len(samples),
        "received": sums.received,
        "unique": sums.unique,
        "mib": {name: [round(second[name], 1), round(last[name], 1)] for name in second},
        "pss_mib": shares,
        "redis_before_mib": round(redis_before_mib, 2),
        "redis_after_mib": round(redis_after_mib, 2),
        "keys": [len(names), len(left)],
    }
    campaign.report_totals(totals, record_property)
    assert len(samples) >= 10
    assert sums.balances
    assert still == watched, "a process was started anew"
    used, redis_resident = ("used", "redis")
    for name in watched.keys() - {redis_resident}:
        assert last[name] - second[name] < GROWTH_MIB + GROWTH_SHARE * second[name], name
    assert last[used] - second[used] < REDIS_GROWTH_MIB
    assert left == names
    assert redis_after_mib - redis_before_mib < REDIS_LEFT_MIB


def _load(start: Callable[..., Running], port: int, *, destinations: int, seed: int) -> Running:
    return campaign.gateway(
        *(start, port, "--destinations", str(destinations), "--replies", str(destinations // 20)),
        *("--bundle", "1-3", "--rate", str(CALLBACKS_A_SECOND), "--quiet"),
        seed=seed,
    )


def _pids(parts: dict[str, Running]) -> dict[str, int]:
    """Return the processes of every part: its first, and those that it started."""
    pids = {}
    for name, running in parts.items():
        pids[name] = running.process.pid
        for number, child in enumerate(sorted(children(running.process.pid))):
            pids[f"{name} {number}"] = child
    return pids


def _redis_state(
    client: "redis_client.Redis", *, like: tuple[set[bytes], float] | None = None
) -> tuple[set[bytes], float]:
    """Return the keys of Redis and its size in MiB, once nothing of a callback is left, and all is `like` before."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        names, mib = set(client.scan_iter(count=1000)), _redis_mib(client)
        if like is None:
            done = not any(key.startswith(OF_CALLBACKS) for key in names)
        else:
            done = names == like[0] and mib - like[1] < REDIS_LEFT_MIB
        if done or time.monotonic() > deadline:
            return names, mib
        time.sleep(1)


def _redis_mib(client: "redis_client.Redis") -> float:
    """Return the size of Redis without the delivery log, which grows up to a size of its own."""
    log = sum(client.memory_usage(key) or 0 for key in client.scan_iter(match=f"{keys.DELIVERY_LOG}*"))
    return float(client.info("memory")["used_memory"] - log) / (1 << 20)
