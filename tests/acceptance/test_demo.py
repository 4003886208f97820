"""`callbacks demo`: one command, everything real, a sum that comes out, and nothing left behind."""

import json
import signal
from pathlib import Path

import pytest

from tests.acceptance.processes import assert_nothing_left, run, started
from tests.redis_server import free_port, require

# What reaches other machines; nothing listens there, and it is not for this machine.
PROXY = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:1")


@pytest.fixture(autouse=True)
def _a_server() -> None:
    require()


def test_a_campaign_is_delivered_exactly_once(tmp_path: Path) -> None:
    ended = run("demo", "--seed", "1", "--json", cwd=tmp_path, forked=False)

    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    totals = result["totals"]
    assert result["balances"] is True
    assert totals["callbacks sent"] == totals["callbacks acknowledged with 200"]
    assert totals["new: events"] == totals["delivered to 'log'"] > 2000
    assert totals["duplicates"] > 0
    assert totals["records in them"] == totals["new: events"] + totals["duplicates"]
    assert totals["quarantined"] == totals["dead letters of 'log'"] == totals["still on their way"] == 0
    assert_nothing_left(tmp_path)


def test_a_second_run_in_its_folder_works_too_and_removes_only_what_is_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "demo"
    assert run("demo", "--destinations", "20", "--replies", "2", cwd=tmp_path).returncode == 0
    (folder / "notes.txt").write_text("somebody's")
    (folder / "elsewhere").symlink_to(tmp_path)

    environment = {**PROXY, "no_proxy": "", "NO_PROXY": ""}
    ended = run("demo", "--destinations", "50", "--replies", "5", cwd=tmp_path, environment=environment)

    assert ended.returncode == 0, ended.stderr
    assert (folder / "notes.txt").read_text() == "somebody's"
    assert (folder / "elsewhere").is_symlink()
    # Its table and its result are for people.
    for row in ("callbacks sent", "duplicates", "delivered to 'log'", "quarantined", "dead letters of 'log'"):
        assert row in ended.stdout
    assert "It balances" in ended.stdout
    assert ended.stderr.startswith("starting Redis, the web process and the workers\n")
    assert "callbacks acknowledged" in ended.stderr
    # Its Redis is durable.
    configuration = (folder / "redis" / "redis.conf").read_text()
    assert "appendonly yes" in configuration
    assert "appendfsync always" in configuration


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_it_ends_nothing_is_left_running(tmp_path: Path, signum: signal.Signals) -> None:
    with started(tmp_path, {}) as start:
        demo = start("demo", "--destinations", "20000")
        demo.until(lambda: "callbacks to http" in demo.output, "the campaign")
        demo.send(signum)

        assert demo.wait() == 128 + signum, demo.output
    assert_nothing_left(tmp_path)


def test_killed_without_a_word_it_still_leaves_nothing_running(tmp_path: Path) -> None:
    with started(tmp_path, {}) as start:
        demo = start("demo", "--destinations", "20000")
        demo.until(lambda: "callbacks to http" in demo.output, "the campaign")
        demo.send(signal.SIGKILL)
        demo.wait()
    assert_nothing_left(tmp_path)


def test_an_error_on_the_way_is_told_and_leaves_nothing_running(tmp_path: Path) -> None:
    ended = run("demo", cwd=tmp_path, environment={"CALLBACKS_LOG_LEVEL": "LOUD"})

    assert ended.returncode == 1
    assert "CALLBACKS_LOG_LEVEL" in ended.stderr
    assert_nothing_left(tmp_path)


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, problem in (("file/demo", "Not a directory"), ("x" * 300, "File name too long")):
        ended = run("demo", "--folder", folder, cwd=tmp_path)

        assert ended.returncode == 1
        assert ended.stderr == (
            f"Error: {folder} cannot be written ({problem}): make it writable, or name another --folder\n"
        )


def test_it_never_empties_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    ended = run("demo", "--folder", ".", cwd=tmp_path)

    assert ended.returncode == 1
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_it_never_empties_the_folder_of_dev(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "dev"
    with started(tmp_path, {}) as start:
        dev = start("dev", "--port", str(free_port()))
        dev.wait_for_output("callback_url")
        assert dev.stop() == 0
    token = (folder / "token").read_text()

    ended = run("demo", "--folder", str(folder), cwd=tmp_path)

    assert ended.returncode == 1
    assert "belongs to `callbacks dev`; name another --folder" in ended.stderr
    assert (folder / "token").read_text() == token
    assert (folder / "redis").is_dir()
