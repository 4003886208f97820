"""A gateway's load on the whole service, and what became of it: what was acknowledged, against what the handler had."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callbacks.simulator import ledger
from shared import audit, events
from tests.acceptance.processes import TOKEN, Running, get
from tests.redis_server import RedisServer

_LEDGER: Final = "ledger.jsonl"
_RECORDED: Final = "recorder.txt"
# Writes down that it has an event, before it could be killed with it: the event, its own process, and when.
_RECORDER: Final = f"""
import os, time
from callbacks import ReplyEvent, ReportEvent, handler

_file = os.open("{_RECORDED}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handler(ReportEvent, ReplyEvent)
def recorder(event):
    os.write(_file, f"{{event.id}} {{os.getpid()}} {{time.time()}}\\n".encode())
"""
_CALLBACKS_A_SECOND: Final = 100
_REST_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Call:
    """The handler had an event, in a process, at a time (unix, in seconds)."""

    event_id: str
    pid: int
    at: float


@dataclass(frozen=True)
class Outcome:
    """What the gateway sent and heard, the ids of the events it heard 200 for, and the calls of the handler."""

    entries: tuple[ledger.LedgerEntry, ...]
    expected: frozenset[str]
    calls: tuple[Call, ...]

    @property
    def times(self) -> Counter[str]:
        """How often the handler had each event."""
        return Counter(call.event_id for call in self.calls)

    @property
    def lost(self) -> frozenset[str]:
        """Acknowledged, and the handler never had them."""
        return self.expected - self.times.keys()

    @property
    def totals(self) -> dict[str, int]:
        """Callbacks: acknowledged, discarded; attempts that were refused. Events: sent, lost, come once more."""
        return {
            "acknowledged": sum(entry.acknowledged for entry in self.entries),
            "discarded": sum(not entry.acknowledged for entry in self.entries),
            "refused": sum(attempt.status not in (200, None) for entry in self.entries for attempt in entry.attempts),
            "events": len(self.expected),
            "lost": len(self.lost),
            "doubled": len(self.calls) - len(self.times),
        }


def environment(redis_url: str, port: int, **more: str) -> dict[str, str]:
    """Return the environment of a service that one gateway may call."""
    return {
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"chaos={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        **more,
    }


def recorded_environment(folder: Path, redis_url: str, port: int, **more: str) -> dict[str, str]:
    """Return the environment of a service whose one handler writes down in `folder` what it has."""
    (folder / "recorder.py").write_text(_RECORDER)
    return environment(redis_url, port, CALLBACKS_HANDLERS="recorder", **more)


def gateway(start: Callable[..., Running], port: int, *options: str, seed: int) -> Running:
    """Play the gateway, with five seconds for its five minutes."""
    return start(
        *("simulate", f"http://127.0.0.1:{port}/callbacks/{TOKEN}", "--seed", str(seed)),
        *("--retry-seconds", "5", "--connections", "16", *options),
    )


def load(start: Callable[..., Running], port: int, *, seconds: float, seed: int) -> Running:
    """Play the gateway for about `seconds`, and have it write down the answers."""
    # Of each destination come 2.9 reports, those sent twice included, and ten are in a callback.
    destinations = max(50, int(seconds * _CALLBACKS_A_SECOND * 10 / 2.9))
    return gateway(
        *(start, port, "--ledger", _LEDGER, "--timeout-seconds", "10", "--rate", str(_CALLBACKS_A_SECOND)),
        *("--destinations", str(destinations), "--replies", str(int(seconds * 5))),
        seed=seed,
    )


def rest(redis: RedisServer, port: int, *, revive: Callable[[], None] = lambda: None) -> audit.Audit:
    """Wait until nothing moves any more, and nothing waits in the web process's spool; `revive` what has ended."""
    deadline = time.monotonic() + _REST_SECONDS
    with redis.client(decode_responses=False) as client:
        while True:
            revive()
            status, ready = get(f"http://127.0.0.1:{port}/readyz")
            if status == 200 and ready["checks"]["spool"]["waiting_callbacks"] == 0:
                sums = audit.run(client)
                if not sums.pending and not sums.moving and sums.received:
                    return sums
            assert time.monotonic() < deadline, (status, ready, audit.run(client))
            time.sleep(0.2)


def outcome(folder: Path) -> Outcome:
    """Add up what gateway and handler wrote down in `folder`."""
    entries = ledger.read(folder / _LEDGER)
    known = ledger.unique_events(entries)
    expected = {events.report_id("chaos", *report) for report in known.reports}
    expected |= {events.reply_id("chaos", reply) for reply in known.replies}
    lines = (line.split() for line in (folder / _RECORDED).read_text().splitlines())
    calls = tuple(Call(event_id, int(pid), float(at)) for event_id, pid, at in lines)
    return Outcome(tuple(entries), frozenset(expected), calls)


def report_totals(totals: dict[str, object], record_property: Callable[[str, object], None] | None = None) -> None:
    """Print the figures of a run as one line of JSON, and put them into the report of the tests."""
    sys.stdout.write(json.dumps(totals) + "\n")
    for name, value in totals.items():
        if record_property is not None:
            record_property(name, str(value))  # which ends as text in any report, and has to pass between processes
