"""A key that is lost: `callbacks check` names it with what needs it, and `callbacks lost-key` discards that."""

import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks import Reject, ReportEvent, handler
from callbacks.cli.main import main
from shared import batches, keys, queues, sealed_data
from shared.batches import Quarantined
from shared.seal_keys import SealKey, parse_seal_keys
from tests.integration.harness import Harness, open_harness, record, status

Run = Callable[..., Result]
called: list[str] = []


@handler(ReportEvent, attempts=3)
def first(event: ReportEvent) -> None:
    if event.message_id == "dead":
        raise Reject("no")
    if event.message_id == "retried":
        raise RuntimeError("not today")
    called.append(event.message_id)


@handler(ReportEvent)
def second(_event: ReportEvent) -> None:
    """Have no trouble."""


@pytest.fixture
def lost(tmp_path: Path) -> SealKey:
    """Return a key of which no file has a copy, and forget what was called."""
    called.clear()
    for name in ("lost", "other"):
        (tmp_path / name).write_bytes(base64.b64encode(secrets.token_bytes(32)))
    (key,) = parse_seal_keys(str(tmp_path / "lost"))
    return key


@pytest.fixture
def run(url: str, lost: SealKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command with the other key, or with the keys in another file."""
    monkeypatch.chdir(tmp_path)
    with open_harness(url, first, second) as harness:
        sealed_data.use([lost])
        play(harness)
        sealed_data.use(parse_seal_keys(str(tmp_path / "other")))

    def run_command(*words: str, seal_keys: str = "other") -> Result:
        environment = {
            "REDIS_URL": url,
            "CALLBACKS_TOKENS": f"main={secrets.token_hex(16)}",
            "CALLBACKS_SEAL_KEYS_FILE": seal_keys and str(tmp_path / seal_keys),
        }
        return CliRunner().invoke(main, words, env=environment)

    return run_command


def play(harness: Harness) -> None:
    """Let a retry, a dead letter, a quarantined callback, events and callbacks wait."""
    harness.accept(status(record("dead"), record("retried"), record("1")))
    harness.expand()
    harness.deliver(first)
    odd = Quarantined(kind="status", source="gw", received_ms=batches.now_ms(), error="odd", body=b'{"to":"3569"}')
    harness.accept(quarantined=[odd])
    harness.accept(status(record("2"), record("3")))
    harness.expand()
    harness.accept(status(record("4"), record("5")), status(record("6")))


COUNTS = {"expand": 1, "deliver-first": 2, "deliver-second": 2, "quarantine": 1, "dead:first": 1}


def findings(ended: Result) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in json.loads(ended.stdout):
        found.setdefault(one["state"], []).append(one["what"])
    return found


@pytest.mark.parametrize(
    ("seal_keys", "why"), [("other", "which is not in"), ("", "and CALLBACKS_SEAL_KEYS_FILE is not set")]
)
def test_check_names_a_missing_key_with_what_needs_it(seal_keys: str, why: str, run: Run, lost: SealKey) -> None:
    ended = run("check", "--json", seal_keys=seal_keys)

    assert ended.exit_code == 1
    (found,) = (one for one in findings(ended)["wrong"] if lost.id.hex() in one)
    assert found.startswith(f"sealed with key {lost.id.hex()}, {why}")
    assert found.endswith(
        ": 1 failure of dead:first, 2 jobs of deliver-first, 2 jobs of deliver-second, 1 job of expand, "
        "1 failure of quarantine"
    )


def test_check_says_whether_an_older_key_is_still_needed(run: Run, lost: SealKey, url: str, tmp_path: Path) -> None:
    both = [(tmp_path / name).read_text() for name in ("other", "lost")]
    (tmp_path / "both").write_text("\n".join(both))
    needed = run("check", "--json", seal_keys="both")
    with open_harness(url) as harness:
        harness.connection.flushall()
    over = run("check", "--json", seal_keys="both")

    assert any(
        f"the older key {lost.id.hex()} is needed for 1 failure of dead:first," in one for one in findings(needed)["ok"]
    )
    assert f"the older key {lost.id.hex()}: nothing in Redis needs it" in findings(over)["ok"]


def test_what_is_sealed_with_a_lost_key_is_discarded_and_nothing_else(
    run: Run, lost: SealKey, url: str, tmp_path: Path
) -> None:
    with open_harness(url, first, second) as harness:
        # As workers without the key leave it: each job was tried, and is scheduled.
        harness.expand()
        harness.deliver(first)
        harness.deliver(second)
        harness.accept(status(record("7")))
        ended = run("lost-key", lost.id.hex(), "--yes", "--json")

        assert (ended.exit_code, json.loads(ended.stdout)) == (0, {"dropped": sum(COUNTS.values()), "left": {}})
        audit = harness.audit()
        assert audit.balances
        assert (audit.dropped, [one.dropped for one in audit.handlers]) == (4, [4, 5])
        sealed_data.use(parse_seal_keys(str(tmp_path / "other")))
        harness.expand()
        harness.deliver(first)
        harness.deliver(second)
        assert called == ["1", "7"]
        assert harness.leftover_keys() == set()
    assert run("forget", "35699777123").exit_code == 0
    assert lost.id.hex() not in run("check", "--json").stdout
    again = run("lost-key", lost.id.hex(), "--yes")
    assert (again.exit_code, again.stdout) == (0, "dropped: 0\n")


def test_it_asks_first_and_says_how_many(run: Run, lost: SealKey, url: str) -> None:
    ended = run("lost-key", lost.id.hex())

    assert ended.exit_code == 1
    assert "Discard 1 failure of dead:first, 2 jobs of deliver-first, 2 jobs of deliver-second" in ended.output
    with open_harness(url) as harness:
        assert harness.connection.llen(keys.rq_queue(queues.EXPAND)) == 1


def test_a_job_that_runs_is_left_and_named(run: Run, lost: SealKey, url: str) -> None:
    with open_harness(url, first, second) as harness:
        worker: Any = harness.worker(queues.EXPAND)
        sealed_data.use([lost])
        worker.perform_job = lambda *_: True
        worker.execute_job(*worker.dequeue_job_and_maintain_ttl(None))
        ended = run("lost-key", lost.id.hex(), "--yes")

        assert (ended.exit_code, ended.stdout) == (1, "dropped: 6; left: 1 job of expand\n")
        assert harness.audit().balances


@pytest.mark.parametrize(
    ("key", "problem"), [("35699777123", "is not the id of a key"), ("", "is in CALLBACKS_SEAL_KEYS_FILE")]
)
def test_a_key_that_is_there_or_is_no_key_is_wrong_usage(key: str, problem: str, run: Run, tmp_path: Path) -> None:
    (other,) = parse_seal_keys(str(tmp_path / "other"))

    ended = run("lost-key", key or other.id.hex(), "--yes")

    assert ended.exit_code == 2
    assert problem in ended.output
