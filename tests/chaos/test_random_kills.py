"""Under load, whatever is killed whenever: nothing acknowledged is lost, nothing is delivered twice, the sum comes out.

What a handler did is written down every quarter of a second: only events that it had just before its process, or Redis,
was killed may come to it again, and these are counted.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from shared import audit, events
from simulator import ledger
from tests.acceptance.conftest import TOKEN
from tests.acceptance.processes import Running, get, started
from tests.chaos.fleet import Fleet
from tests.redis_server import RedisServer, free_port

# Writes down that it has an event, before it could be killed with it.
WITNESS = """
import os, time
from workers import ReplyEvent, ReportEvent, handler

_file = os.open("witness.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handler(ReportEvent, ReplyEvent)
def witness(event):
    os.write(_file, f"{event.id} {time.time()}\\n".encode())
"""
_REST_SECONDS = 180.0
# A quarter of a second, and what a busy machine and a Redis that syncs each write add to it.
_JUST_BEFORE_SECONDS = 3.0


def test_random_kills_lose_nothing_and_double_nothing(
    tmp_path: Path,
    start_redis: Callable[..., RedisServer],
    chaos_seconds: float,
    chaos_seed: int,
    record_property: Callable[[str, object], None],
) -> None:
    (tmp_path / "witness.py").write_text(WITNESS)
    redis, port, chance = start_redis(), free_port(), random.Random(chaos_seed)
    environment = {
        "REDIS_URL": redis.url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"chaos={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_HANDLERS": "witness",
    }
    with started(tmp_path, environment) as start:
        fleet = Fleet(start, redis, chance)
        gateway = _gateway(start, port, seconds=chaos_seconds, seed=chaos_seed)
        while gateway.process.poll() is None:
            time.sleep(chance.uniform(0.2, 1.5))
            fleet.break_something()
            fleet.revive()
        sums = _rest(redis, fleet, port)
        fleet.stop()

    entries = ledger.read(tmp_path / "ledger.jsonl")
    known = ledger.unique_events(entries)
    expected = {events.report_id(*report) for report in known.reports} | {events.reply_id(i) for i in known.replies}
    witnessed = _witnessed(tmp_path / "witness.txt")
    doubled = [times for times in witnessed.values() if len(times) > 1]
    lost = expected - witnessed.keys()
    figures = {
        "kills": Counter(what for what, _ in fleet.kills),
        "acknowledged": sum(entry.acknowledged for entry in entries),
        "events": len(expected),
        "lost": len(lost),
        "doubled": sum(len(times) - 1 for times in doubled),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    for name, value in figures.items():
        record_property(name, value)
    assert expected
    assert not lost
    # A supervisor that is killed takes its workers with it, in its own time.
    ends = [when for what, when in fleet.kills if "deliver" in what or what == "redis"]
    for times in doubled:
        for before in sorted(times)[:-1]:
            assert any(-1.0 < end - before < _JUST_BEFORE_SECONDS for end in ends), "nobody was killed then"
    assert sums.balances


def _witnessed(file: Path) -> dict[str, list[float]]:
    """Give for each event when the handler had it (unix time in seconds)."""
    witnessed: dict[str, list[float]] = {}
    for line in file.read_text().splitlines():
        event_id, when = line.split()
        witnessed.setdefault(event_id, []).append(float(when))
    return witnessed


def _gateway(start: Callable[..., Running], port: int, *, seconds: float, seed: int) -> Running:
    """Play the gateway for about so many seconds, its five minutes compressed to one second."""
    rate = 100
    # About 2.6 reports for each destination, ten in a bundle.
    destinations = max(50, int(seconds * rate * 10 / 2.9))
    return start(
        *("simulate", f"http://127.0.0.1:{port}/callbacks/{TOKEN}", "--ledger", "ledger.jsonl"),
        *("--destinations", str(destinations), "--replies", str(int(seconds * 5)), "--rate", str(rate)),
        *("--retry-seconds", "5", "--timeout-seconds", "10", "--seed", str(seed), "--connections", "16"),
    )


def _rest(redis: RedisServer, fleet: Fleet, port: int) -> audit.Audit:
    """Wait until nothing moves any more, and nothing waits in the web process's spool."""
    deadline = time.monotonic() + _REST_SECONDS
    with redis.client(decode_responses=False) as client:
        while True:
            fleet.revive()
            status, ready = get(f"http://127.0.0.1:{port}/readyz")
            if status == 200 and ready["checks"]["spool"]["waiting_callbacks"] == 0:
                sums = audit.take(client)
                if not sums.in_flight and not sums.moving and sums.received:
                    return sums
            assert time.monotonic() < deadline, (status, ready, audit.take(client))
            time.sleep(0.2)
