"""A campaign through real processes: every event that the gateway had acknowledged is delivered, once."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from callbacks.simulator import ledger
from callbacks.simulator.oddities import ODDITIES
from shared import audit, events
from tests.acceptance.processes import CALLBACKS, TOKEN, Running, get
from tests.certificates import self_signed
from tests.redis_server import RedisServer


def delivered(file: Path) -> Counter[str]:
    if not file.exists():
        return Counter()
    return Counter(json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines())


def acknowledged(file: Path, *, source: str = "acceptance") -> set[str]:
    """Derive the ids from the gateway's own account of what it sent to the token of that name."""
    known = ledger.unique_events(ledger.read(file))
    ids = {events.report_id(source, *report) for report in known.reports}
    ids |= {events.reply_id(source, reply) for reply in known.replies}
    # The ledger has its own keys: were two of them one id of ours, two events would be taken for one.
    assert len(ids) == len(known.reports) + len(known.replies)
    return ids


def test_two_expand_and_two_deliver_processes_deliver_each_event_once(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer
) -> None:
    web = start("web")
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    workers = [start("worker", "expand", "--processes", "2"), start("worker", "deliver", "--processes", "2")]

    gateway = start(
        *("simulate", f"http://127.0.0.1:{port}/callbacks/{TOKEN}", "--ledger", "ledger.jsonl", "--json"),
        *("--destinations", "3000", "--replies", "300", "--duplicates", "0.2", "--connections", "32"),
        *("--reply-retries", "0.2", "--retry-seconds", "1", "--odd", "0.3"),
    )
    assert gateway.wait() == 0, gateway.output
    expected = acknowledged(tmp_path / "ledger.jsonl")
    # Those that need a bundle of one report may not come up.
    written = {entry.oddity for entry in ledger.read(tmp_path / "ledger.jsonl")}
    assert {oddity.name for oddity in ODDITIES} - written <= {"shapes/one-record", "shapes/record-alone"}
    with redis_server.client(decode_responses=False) as client:
        workers[0].until(lambda: audit.run(client).pending == 0, "an empty queue")
        sums = audit.run(client)

    assert len(expected) > 8000
    assert delivered(tmp_path / "events.jsonl") == dict.fromkeys(expected, 1)
    assert sums.balances
    assert sums.unique == len(expected)
    assert sums.duplicate > 0
    assert sum(totals.quarantined for totals in sums.records.values()) == 0
    assert [process.stop() for process in (web, *workers)] == [0, 0, 0]


def test_a_stop_in_mid_campaign_loses_nothing(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer
) -> None:
    web = start("web")
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    gateway = start(
        *("simulate", f"http://127.0.0.1:{port}/callbacks/{TOKEN}", "--ledger", "ledger.jsonl", "--rate", "200"),
        *("--destinations", "2000", "--retry-seconds", "1"),
    )
    with redis_server.client(decode_responses=False) as client:
        for _ in range(3):
            workers = [start("worker", "expand"), start("worker", "deliver")]
            for worker in workers:
                worker.wait_for_output("action=worker_started")
            before = sum(handler.delivered for handler in audit.run(client).handlers)
            while gateway.process.poll() is None:
                if sum(handler.delivered for handler in audit.run(client).handlers) > before:
                    break
                time.sleep(0.05)
            assert [worker.stop() for worker in workers] == [0, 0]
        web.stop()
        web = start("web")
        assert gateway.wait() == 0, gateway.output
        workers = [start("worker", "expand"), start("worker", "deliver")]
        workers[0].until(lambda: audit.run(client).pending == 0, "an empty queue")
        assert audit.run(client).balances

    assert delivered(tmp_path / "events.jsonl") == dict.fromkeys(acknowledged(tmp_path / "ledger.jsonl"), 1)


def test_the_gateway_is_answered_over_https(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer
) -> None:
    certificate = str(self_signed(tmp_path))
    web = start(
        *("--factory", "ingest.app:create_app", "--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-keyfile", certificate, "--ssl-certfile", certificate),
        command=str(Path(CALLBACKS).with_name("uvicorn")),
    )
    web.until(lambda: "Application startup complete" in web.output, "the start")
    url = f"https://127.0.0.1:{port}/callbacks/{TOKEN}"
    few = ("--destinations", "20", "--replies", "3", "--retry-seconds", "0.1")

    trusting = start("simulate", url, "--ca", certificate, *few)
    assert trusting.wait() == 0, trusting.output
    doubting = start("simulate", url, *few)
    assert doubting.wait() == 1
    assert "certificate" in doubting.output
    with redis_server.client(decode_responses=False) as client:
        assert audit.run(client).received > 0
    assert TOKEN not in web.output
