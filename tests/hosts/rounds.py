"""One round: a load, a fault amid it, and when all is quiet what the gateway heard against what the handlers had."""

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from callbacks.simulator import ledger
from shared import events
from tests.hosts import recorder
from tests.hosts.faults import Fault
from tests.hosts.results import Round
from tests.hosts.stack import SOURCE, WEB, WORKERS, Stack

# The load begins before the fault, by a random time, and ends after it.
_BEFORE_SECONDS: Final = (1.0, 5.0)
_AFTER_SECONDS: Final = 3.0
_GATEWAY_SECONDS: Final = 300.0


def run(stack: Stack, fault: Fault, *, seed: int, rate: float, folder: Path) -> Round:
    """Run one round; it ends when the service rests and could stand another."""
    chance = random.Random(seed)
    before_seconds = chance.uniform(*_BEFORE_SECONDS)
    stack.until(stack.could_fail_over, "hosts as they were at the start")
    restarts = sum(stack.hosts[name].restarts for name in (*WEB, *WORKERS))
    file = folder / f"ledger-{seed}.jsonl"
    seconds = before_seconds + fault.seconds + _AFTER_SECONDS
    gateway = stack.send(seconds=seconds, rate=rate, seed=seed, ledger=file)
    time.sleep(before_seconds)
    with fault.begin(stack, chance):
        began = time.monotonic()
        time.sleep(fault.seconds)
    ended, ended_wall = time.monotonic(), time.time()
    stack.until(stack.is_ready, "web hosts that keep callbacks in Redis, with empty spools")
    recovered = time.monotonic()
    gateway.wait(_GATEWAY_SECONDS)
    sums = stack.rest()
    entries = ledger.read(file)
    expected = _event_ids(entries)
    calls: dict[str, list[float]] = {}
    for event_id, at in recorder.read(stack.hosts[name].folder for name in WORKERS):
        calls.setdefault(event_id, []).append(at)
    # What had been accepted when the fault ended is to be with its handler.
    waiting = _event_ids(
        entry for entry in entries if entry.acknowledged_at and entry.acknowledged_at.timestamp() <= ended_wall
    )
    recovered = max([recovered, *(min(calls[event_id]) for event_id in waiting if event_id in calls)])
    again = [at - began for event_id in expected for at in sorted(calls.get(event_id, []))[:-1]]
    return Round(
        fault=fault.name,
        seed=seed,
        accepted=sum(entry.acknowledged for entry in entries),
        discarded=sum(not entry.acknowledged for entry in entries),
        events=len(expected),
        lost=len(expected - calls.keys()),
        doubled=len(again),
        balances=sums.balances,
        restarts=sum(stack.hosts[name].restarts for name in (*WEB, *WORKERS)) - restarts,
        seconds_to_recover=round(recovered - ended, 1),
        doubled_between=(round(min(again), 2), round(max(again), 2)) if again else None,
    )


def _event_ids(entries: Iterable[ledger.LedgerEntry]) -> set[str]:
    """Return the ids of the events of those that were acknowledged."""
    known = ledger.unique_events(entries)
    reports = {events.report_id(SOURCE, *report) for report in known.reports}
    return reports | {events.reply_id(SOURCE, reply) for reply in known.replies}
