"""`callbacks simulate`: exit codes, what it prints, and what it never prints."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from callbacks.cli.simulate import simulate
from callbacks.simulator.ledger import read, unique_events
from tests.integration.simulator.receiver import Request, always, receiving
from tests.redis_server import free_port

TOKEN = "s3cr3t-token"
COMMAND = "from callbacks.cli.simulate import simulate; simulate()"
SMALL = ("--destinations", "20", "--replies", "5", "--retry-seconds", "0")


def called(*arguments: str) -> Result:
    result = CliRunner().invoke(simulate, arguments)
    assert TOKEN not in result.output
    return result


def test_all_acknowledged_is_exit_0_and_a_table() -> None:
    with receiving(always(200)) as receiver:
        result = called(receiver.base, *SMALL)
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert list(lines) == ["sent", "repeats", "acknowledged", "failed", "discarded", "rate", "acknowledgement"]
    assert re.fullmatch(r"(\d+) of \1 callbacks to http://127\.0\.0\.1:\d+/callbacks/…", lines["sent"])
    assert re.search(r"5\d distinct reports, 5 distinct replies$", lines["acknowledged"])
    assert lines["discarded"] == "0"
    assert re.fullmatch(r"p50 [\d.]+ ms, p99 [\d.]+ ms, max [\d.]+ ms", lines["acknowledgement"])
    assert result.stderr == "", "no progress bar without a terminal"


def test_something_discarded_is_exit_1_and_says_why() -> None:
    with receiving(always(204)) as receiver:
        result = called(receiver.base, *SMALL)
    assert result.exit_code == 1
    attempts = len(receiver.requests)
    assert (
        f"failed           {attempts} of {attempts} attempts: 204: only 200 is success ({attempts})\n" in result.stdout
    )
    assert f"discarded        {attempts // 3}\n" in result.stdout


def deaf_url() -> str:
    """Return a URL at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}/callbacks/{TOKEN}"


def test_if_nothing_is_accepted_it_says_why_and_ends_without_the_wait() -> None:
    result = called(deaf_url(), "--destinations", "20")

    assert result.exit_code == 1
    first, last = result.stderr.splitlines()
    assert first.endswith("/callbacks/…: connection refused")
    assert last.startswith("Error: nothing was accepted: connection refused. Start the service there")


def test_a_wrong_token_is_named() -> None:
    with receiving(always(404)) as receiver:
        result = called("--to", receiver.base, "--destinations", "20")

    assert result.exit_code == 1
    assert "/callbacks/…: 404: unknown token or path\n" in result.stderr
    assert "Error: nothing was accepted: 404: unknown token or path. Use the URL with the token" in result.stderr


def test_who_sets_the_wait_gets_all_three_attempts() -> None:
    with receiving(always(503)) as receiver:
        result = called(receiver.base, *SMALL)

    assert result.exit_code == 1
    assert "discarded        0\n" not in result.stdout
    assert result.stderr.count("503: service unavailable") == 2, "once at once, and once at the end"


def test_the_reason_is_said_while_the_run_goes_on() -> None:
    async def failing_first(request: Request) -> web.Response:
        return web.Response(status=503 if request.number == 2 else 200)

    with receiving(failing_first) as receiver:
        result = called(receiver.base, *SMALL[:-1], "0.5", "--connections", "1")

    assert result.exit_code == 0
    assert result.stderr.endswith("/callbacks/…: 503: service unavailable; sent again after 0.5 s\n")


def test_in_a_terminal_the_progress_line_names_the_reason() -> None:
    main, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, deaf_url(), "--destinations", "5", "--retry-seconds", "3600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(child)
    shown = b""
    try:
        while b"to be sent again (connection refused)" not in shown:
            shown += os.read(main, 4096)  # raises OSError when the process ends
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_json_is_one_object_on_stdout() -> None:
    with receiving(always(200)) as receiver:
        result = called(receiver.base, *SMALL, "--json", "--seen", "0.5", "--undelivered", "0")
    summary = json.loads(result.stdout)
    assert summary["url"].endswith("/callbacks/…")
    assert (summary["reports"], summary["replies"], summary["discarded"]) == (50, 5, 0)
    assert summary["sent"] == summary["acknowledged"] == summary["attempts"] == len(receiver.requests)
    assert 0 < summary["p50_ms"] <= summary["p99_ms"] <= summary["max_ms"]


def test_the_same_seed_and_start_send_the_same_bytes() -> None:
    runs: list[list[bytes]] = []
    for _ in range(2):
        with receiving(always(200)) as receiver:
            start = ("--seed", "3", "--start-at", "2026-01-31T12:00:00Z", "--connections", "1")
            assert called(receiver.base, *SMALL, *start).exit_code == 0
        runs.append([request.body for request in receiver.requests])
    assert runs[0] == runs[1]


def test_a_ledger_is_kept_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with receiving(always(200)) as receiver:
        for _ in range(2):
            assert called(receiver.base, *SMALL, "--ledger", str(path)).exit_code == 0
    entries = read(path)
    assert sorted(entry.body.encode() for entry in entries) == sorted(request.body for request in receiver.requests)
    assert len(unique_events(entries).replies) == 10, "two campaigns, though of one seed"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--destinations", "-5"], "Invalid value for --destinations: -5 must lie between 1 and 1,000,000."),
        (["--duplicates", "1.5"], "Invalid value for --duplicates: 1.5 must lie between 0 and 1."),
        (["--out-of-order", "nan"], "Invalid value for --out-of-order: nan must lie between 0 and 1."),
        (["--odd", "2"], "Invalid value for --odd: 2.0 must lie between 0 and 1."),
        (["--rate", "-1"], "Invalid value for --rate: -1.0 must be 0, or lie between 0.001 and 1,000,000."),
        (["--connections", "many"], "Invalid value for '--connections': 'many' is not a valid integer."),
        (["--bundle", "20-1"], "Invalid value for --bundle: 20-1 must be MIN-MAX with 1 <= MIN <= MAX."),
        (["--bundle", "some"], "Invalid value for '--bundle': 'some' is not of the form MIN-MAX, as in 1-20."),
        (["--start-at", "noon"], "Invalid value for '--start-at': 'noon' is not a time such as 2026-01-31T12:00:00Z."),
        (["--start-at", "2026-01-31"], "Invalid value for --start-at: 2026-01-31T00:00:00 must have a time zone."),
        (["--ca", "/nowhere/ca.pem"], "Invalid value for --ca: /nowhere/ca.pem cannot be read: No such file"),
        (["--ledger", "/nowhere/l"], "Invalid value for --ledger: /nowhere/l cannot be written: No such file"),
        (["--speed", "9"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_2_and_names_option_and_value(arguments: list[str], complaint: str) -> None:
    result = called(f"http://127.0.0.1:9/callbacks/{TOKEN}", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [f"127.0.0.1:8080/callbacks/{TOKEN}"],
        [f"http://127.0.0.1:8080/callbacks/{TOKEN}/status"],
        ["http://127.0.0.1:8080/", f"http://127.0.0.1:8080/callbacks/{TOKEN}"],
        ["--seed", f"http://127.0.0.1:8080/callbacks/{TOKEN}"],
        [f"--http://127.0.0.1:8080/callbacks/{TOKEN}"],
    ],
    ids=["no scheme", "not the base", "two URLs", "for a number", "for an option"],
)
def test_a_complaint_about_a_url_keeps_its_token_secret(arguments: list[str]) -> None:
    result = called(*arguments)
    assert result.exit_code == 2
    assert "127.0.0.1:8080/callbacks/…" in result.stderr


def test_a_ledger_that_can_no_longer_be_written_is_exit_1() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with receiving(always(200)) as receiver:
        result = called(receiver.base, *SMALL, "--ledger", "/dev/full")
    assert result.exit_code == 1
    assert result.stderr == "Error: /dev/full: No space left on device\n"


def test_afterwards_signals_are_heard_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with receiving(always(200)) as receiver:
        called(receiver.base, *SMALL)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_summary_so_far(number: signal.Signals, code: int) -> None:
    """Ten are acknowledged, the rest are never answered: ending does not wait for their time-out."""
    silence = threading.Event()

    async def ten_then_silence(request: Request) -> web.Response:
        if request.number > 10:
            silence.set()
            await asyncio.sleep(60)
        return web.Response()

    with receiving(ten_then_silence) as receiver:
        process = subprocess.Popen(
            # One connection: when the eleventh is met with silence, ten answers have been read.
            [sys.executable, "-c", COMMAND, receiver.base, "--json", "--connections", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        try:
            assert silence.wait(timeout=30)
            process.send_signal(number)
            output, complaint = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    summary = json.loads(output)
    assert process.returncode == code
    assert (summary["acknowledged"], summary["discarded"], summary["interrupted"]) == (10, 0, True)
    assert summary["unfinished"] == summary["planned"] - 10
    assert complaint == ""
