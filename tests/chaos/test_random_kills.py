"""Under load, whatever is killed whenever: nothing acknowledged is lost, nothing is delivered twice, the sum comes out.

Only the event that a handler had in its hands when its process was killed may come to it again, and these are counted.
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
import os
from workers import ReplyEvent, ReportEvent, handler

_file = os.open("witness.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handler(ReportEvent, ReplyEvent)
def witness(event):
    os.write(_file, f"{event.id} {os.getpid()}\\n".encode())
"""
_REST_SECONDS = 180.0


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
    witnessed = [line.split() for line in (tmp_path / "witness.txt").read_text().splitlines()]
    calls = Counter(event_id for event_id, _ in witnessed)
    lost = expected - calls.keys()
    figures = {
        "kills": Counter(fleet.kills),
        "acknowledged": sum(entry.acknowledged for entry in entries),
        "events": len(expected),
        "lost": len(lost),
        "doubled": calls.total() - len(calls),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    for name, value in figures.items():
        record_property(name, value)
    assert expected
    assert not lost
    in_hands = Counter(event_id for pid, event_id in _last_of_each(witnessed).items() if pid in fleet.killed)
    again = Counter({event_id: number - 1 for event_id, number in calls.items() if number > 1})
    assert again <= in_hands, "it came again, and no process was killed that had it in hands"
    assert sums.balances


def _last_of_each(witnessed: list[list[str]]) -> dict[int, str]:
    """Give the last event that each process had, by process id."""
    return {int(pid): event_id for event_id, pid in witnessed}


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
