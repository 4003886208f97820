"""`callbacks check` says what is wrong, and what to do about it."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import keys
from tests.acceptance.processes import run
from tests.redis_server import RedisServer, free_port
from workers.runtime import pause

TOKENS = {"CALLBACKS_TOKENS": "acme=a-long-enough-token"}


def test_all_is_well(redis_server: RedisServer, tmp_path: Path) -> None:
    ended = run("check", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": redis_server.url})

    assert ended.returncode == 0, ended.stdout
    assert "✗" not in ended.stdout
    assert "a-long-enough-token" not in ended.stdout + ended.stderr


def test_an_unsigned_target_is_a_finding_and_no_bare_log_line(tmp_path: Path) -> None:
    forward = {"CALLBACKS_HANDLERS": "forward", "CALLBACKS_FORWARD_URL": "https://u:s3cret@crm.example/in"}

    ended = run("check", cwd=tmp_path, environment={**TOKENS, **forward, "CALLBACKS_FORWARD_SECRETS": "none"})

    assert "! handler 'forward' sends unsigned requests to https://" in ended.stdout
    assert "crm.example: secrets are 'none'\n    The target cannot verify where they come from." in ended.stdout
    assert "action=" not in ended.stdout + ended.stderr
    assert "s3cret" not in ended.stdout


def test_no_tokens_and_no_redis(tmp_path: Path) -> None:
    ended = run("check", cwd=tmp_path)

    assert ended.returncode == 1
    assert "CALLBACKS_TOKENS is not set" in ended.stdout
    assert "REDIS_URL is not set" in ended.stdout


def test_redis_that_cannot_be_reached_without_showing_its_password(tmp_path: Path) -> None:
    url = f"redis://:s3cret@127.0.0.1:{free_port()}/0"

    ended = run("check", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": url})

    assert ended.returncode == 1
    assert "cannot be used" in ended.stdout
    assert "s3cret" not in ended.stdout + ended.stderr


def test_each_cell_is_tried_and_named(redis_server: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    cells = {"CALLBACKS_CELLS": f"north={redis_server.url},west=redis://:s3cret@127.0.0.1:{port}/0"}

    ended = run("check", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": redis_server.url, **cells})

    assert ended.returncode == 1
    assert f"CALLBACKS_CELLS: cell 'north', {redis_server.url}, answers" in ended.stdout
    assert f"CALLBACKS_CELLS: cell 'west': redis://127.0.0.1:{port}/0 cannot be used" in ended.stdout
    assert "s3cret" not in ended.stdout + ended.stderr


def test_redis_that_asks_for_a_password(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server = start_redis({"requirepass": "s3cret"})
    url = f"redis://127.0.0.1:{server.port}/0"
    asks = "cannot be used: Redis asks for a password: put it into"

    environment = {**TOKENS, "REDIS_URL": url, "CALLBACKS_HANDLERS": "stream", "CALLBACKS_STREAM_URL": url}
    checked = run("check", cwd=tmp_path, environment=environment)
    listed = run("audit", cwd=tmp_path, environment=environment)

    assert checked.returncode == listed.returncode == 1
    assert f"REDIS_URL: {url} {asks} REDIS_URL, redis://:PASSWORD@host\n" in checked.stdout
    assert "Redis asks for a password: put it into CALLBACKS_STREAM_URL, redis://:PASSWORD@host\n" in checked.stdout
    assert f"{url} {asks} REDIS_URL" in listed.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"appendonly": "no"}, "appendonly"),
        ({"appendfsync": "no"}, "appendfsync"),
        ({"maxmemory-policy": "allkeys-lru"}, "maxmemory policy"),
    ],
)
def test_redis_that_would_lose_callbacks(
    options: dict[str, str], named: str, start_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = start_redis(options)

    ended = run("check", "--json", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": server.url})

    assert ended.returncode == 1
    (wrong,) = [finding for finding in json.loads(ended.stdout) if finding["state"] == "wrong"]
    assert named in wrong["what"]
    assert "CONFIG SET" in wrong["remedy"]


@pytest.mark.parametrize("variable", ["CALLBACKS_SPOOL_DIR", "CALLBACKS_RUN_DIR"])
def test_a_folder_that_cannot_be_written(variable: str, redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    ended = run("check", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": redis_server.url, variable: "file/folder"})

    assert f"{variable}: file/folder cannot be written" in ended.stdout
    assert "set another" in ended.stdout


def test_a_handler_that_cannot_be_imported(redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package\n")

    ended = run(
        "check",
        cwd=tmp_path,
        environment={**TOKENS, "REDIS_URL": redis_server.url, "CALLBACKS_HANDLERS": "broken"},
    )

    assert ended.returncode == 1
    assert "'broken'" in ended.stdout
    assert "no_such_package" in ended.stdout


def test_a_value_that_is_wrong_is_named(tmp_path: Path) -> None:
    for command in (["check"], ["web"], ["worker", "expand"], ["worker", "deliver"], ["ops"], ["audit"]):
        ended = run(*command, cwd=tmp_path, environment={"CALLBACKS_LOG_LEVEL": "lots"})

        assert ended.returncode == (1 if command == ["check"] else 2)
        assert "CALLBACKS_LOG_LEVEL" in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_misspelt_setting_is_named_with_what_was_meant(redis_server: RedisServer, tmp_path: Path) -> None:
    misspelt = {"CALLBACKS_HANDLER": "sql", "CALLBACK_TOKENS": "x", "CALLBACKS_FORWARD_SECRET": "abc"}

    ended = run("check", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": redis_server.url, **misspelt})

    assert ended.returncode == 1
    for variable, meant in (
        ("CALLBACKS_HANDLER", "CALLBACKS_HANDLERS"),
        ("CALLBACK_TOKENS", "CALLBACKS_TOKENS"),
        ("CALLBACKS_FORWARD_SECRET", "CALLBACKS_FORWARD_SECRETS"),
    ):
        assert f"✗ {variable} is not a setting and is ignored. Did you mean {meant}?" in ended.stdout


def test_every_process_warns_of_a_misspelt_setting_at_its_start(tmp_path: Path) -> None:
    for command in (["web"], ["worker", "expand"], ["worker", "deliver"], ["ops"]):
        ended = run(*command, cwd=tmp_path, environment={"CALLBACKS_REDIS_URL": "redis://127.0.0.1"})

        assert ended.returncode == 2
        assert "action=setting_unknown variable=CALLBACKS_REDIS_URL" in ended.stderr
        assert "Did you mean REDIS_URL?" in ended.stderr


def test_the_env_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CALLBACKS_TOKENS=from-file=abcdefghijklmnopq\nCALLBACKS_ALLOWED_IPS=10.0.0.0/8\n")

    ended = run("check", cwd=tmp_path, environment={"CALLBACKS_ALLOWED_IPS": "192.0.2.1"})

    assert "from-file" in ended.stdout
    assert "192.0.2.1" in ended.stdout
    assert "10.0.0.0/8" not in ended.stdout


def test_a_handler_paused_by_an_operator_and_one_paused_by_itself(redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from callbacks import ReportEvent, handler\n"
        "@handler(ReportEvent)\ndef one(event): ...\n"
        "@handler(ReportEvent)\ndef two(event): ...\n"
    )
    with redis_server.client() as client:
        pause.pause(client, "one")
        paused = {
            "by": "handler",
            "since_ms": 1_700_000_000_000,
            "until_ms": 4_100_000_000_000,
            "reason": "moving house",
        }
        client.hset(keys.paused("two"), mapping=paused)

    ended = run(
        "check", cwd=tmp_path, environment={**TOKENS, "REDIS_URL": redis_server.url, "CALLBACKS_HANDLERS": "mine"}
    )

    assert ended.returncode == 0, "nothing is wrong with it"
    assert "handler 'one' is paused by an operator since " in ended.stdout
    assert "`callbacks handlers resume one` resumes it" in ended.stdout
    assert (
        "handler 'two' is paused since 2023-11-14 22:13:20 UTC, until 2099-12-03 16:53:20: moving house; 0 events wait"
    ) in ended.stdout


def test_an_error_of_one_handler_does_not_hide_the_others(tmp_path: Path) -> None:
    environment = {"CALLBACKS_HANDLERS": "forward,jsonl", "CALLBACKS_FORWARD_URL": "https://crm.example"}

    ended = run("check", cwd=tmp_path, environment=environment)

    assert ended.returncode == 1
    assert "✗ CALLBACKS_HANDLERS: 'forward': its settings: CALLBACKS_FORWARD_SECRETS: is not set" in ended.stdout
    assert "until then its workers stop, the others keep running" in ended.stdout
    assert "✓ handler 'jsonl'" in ended.stdout


def test_a_process_that_cannot_start_says_why_in_json_if_its_log_is_json(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        url = {"REDIS_URL": "redis://127.0.0.1:1", "CALLBACKS_TOKENS": "main=a-token-of-many-letters"}
        for given, problem in ((url, f"port {port}"), ({}, "CALLBACKS_TOKENS")):
            environment = {"CALLBACKS_LOG_FORMAT": "json", **given}
            ended = run("web", "--host", "127.0.0.1", "--port", port, cwd=tmp_path, environment=environment)
            lines = [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines()]
            assert ended.returncode == 2
            assert [line["action"] for line in lines] == ["misconfigured"] * len(lines)
            assert any(problem in line["problem"] for line in lines)
