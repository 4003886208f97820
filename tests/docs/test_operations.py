"""docs/operations.md, the runbook: a section for each alert, and commands and numbers that are real."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from callbacks.ops.access import sign_in_settings
from callbacks.ops.notices.notice import Notice
from callbacks.ops.notices.targets import read_targets
from callbacks.ops.status.conditions import CONDITIONS, ConditionName
from shared import memory, settings
from shared.setting_values import RUNBOOK
from tests.acceptance.processes import REPOSITORY, run
from tests.acceptance.stored import fixture
from tests.deploy.deployment import TOKEN
from tests.docs import pages
from tests.docs.pages import Block, with_blocks
from tests.integration.ops.ops_client import opened
from tests.integration.sql.databases import Database, report
from tests.redis_server import RedisServer
from workers.runtime import headroom

PAGE = "docs/operations.md"
ALERTS = (REPOSITORY / "deploy" / "prometheus" / "alerts.yml").read_text()
# Of each alert, where it sends the person whom it wakes.
LINKS = re.findall(r"alert: (\w+)\n(?:.*\n)*?\s+runbook_url: '.*#(\w+)'", ALERTS)


def test_there_are_alerts() -> None:
    assert len(LINKS) > 10
    assert len(LINKS) == ALERTS.count("alert: ")


@pytest.mark.parametrize(("alert", "anchor"), LINKS)
def test_each_alert_leads_to_its_section(alert: str, anchor: str) -> None:
    assert anchor == alert.lower()
    assert len(pages.section(PAGE, alert)) > 50


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_notice_leads_to_a_section(condition: ConditionName) -> None:
    titles = re.findall(r"^#+ (.+)$", pages.text(PAGE), re.MULTILINE)

    assert CONDITIONS[condition].section in {title.lower().replace(" ", "-") for title in titles}
    assert RUNBOOK == PAGE


def test_each_target_of_notices_is_one() -> None:
    urls = [cells[1].strip("`") for cells in pages.rows(PAGE, "target", "URL") if "://" in cells[1].split()[0]]
    loaded = settings.load({"CALLBACKS_NOTIFY": " ".join(urls), "CALLBACKS_NOTIFY_SECRET": f"whsec_{'A' * 32}"})

    assert [target.scheme for target in read_targets(loaded)] == ["mailtos", "jsons", "webhook+https"]


def test_a_signed_notice_has_the_keys_and_types_of_the_table() -> None:
    notice = Notice(condition="test", state="test", text="", at_seconds=0, started_at_seconds=0)
    rows = pages.rows(PAGE, "key", "value")

    assert [key for cells in rows for key in re.findall(r"`(\w+)`", cells[0])] == list(notice.to_json_object())
    warnings_only = {"backlog_age", "fields_unreadable", "handler_retrying"}
    assert set(re.findall(r"`(\w+)`", rows[0][1])) == set(CONDITIONS) - warnings_only | {"test"}


@with_blocks(PAGE, "CallbacksMessagesOverdue")
def test_the_commands_for_overdue_messages_run(blocks: list[Block], tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/callbacks.db")
    database.write(report("ACCEPTD", client_job_id="overdue"))
    for command in blocks[0].text.splitlines():
        ended = run(*shlex.split(command)[1:], cwd=tmp_path, environment={"DATABASE_URL": database.url})
        assert ended.returncode == 0, ended.stderr
    database.close()


@with_blocks(
    PAGE, "Many dead letters", "CallbacksHandlerRetrying", "CallbacksQuarantineGrowing", "CallbacksAuditDifference"
)
def test_each_command_runs(blocks: list[Block], redis_server: RedisServer, tmp_path: Path) -> None:
    environment = {"REDIS_URL": redis_server.url, "CALLBACKS_TOKENS": f"main={TOKEN}"}
    for command in (line for block in blocks for line in block.text.splitlines()):
        program, *words = shlex.split(command.replace("HANDLER", "shop"))
        with redis_server.client(decode_responses=False) as client:
            client.flushall()
            if "HANDLER" in command:
                fixture.restore(fixture.read(fixture.paths()[0]), client, tmp_path)  # with dead letters of `shop`

        ended = run(*words, cwd=tmp_path, environment=environment)

        assert program == "callbacks"
        assert ended.returncode == 0, ended.stdout + ended.stderr


@with_blocks(PAGE, "Who may see and act")
def test_the_settings_of_a_proxy_are_complete(blocks: list[Block]) -> None:
    (block,) = blocks
    loaded = settings.load(dict(line.split("=", 1) for line in block.text.splitlines()), process="ops")

    assert loaded.ops_act_groups
    assert sign_in_settings.is_sign_in_required(loaded)
    assert list(sign_in_settings.find_problems(loaded)) == []


@with_blocks(PAGE, "Ask by program")
def test_a_program_gets_an_answer(blocks: list[Block], redis_server: RedisServer, tmp_path: Path) -> None:
    tokens, command = (block.text for block in blocks)
    database = Database(f"sqlite:///{tmp_path}/callbacks.db")
    database.write(report("UNDELIV", received_at=datetime.now(UTC)), report("SENT", message_id="m-2"))
    database.close()
    _, authorization, url = shlex.split(command)[1:]
    name, _, value = authorization.partition(": ")
    with opened(redis_server.url, DATABASE_URL=database.url, **dict([tokens.strip().split("=", 1)])) as ops:
        answer = ops.client().request("GET", url.removeprefix("http://127.0.0.1:8081"), headers={name: value})

    assert [one["status"] for one in answer.json()["messages"]] == ["UNDELIV"]
    documented = set(re.findall(r"`(?:GET|POST) (/api/[^?`]*)", pages.section(PAGE, "Ask by program")))
    with opened(redis_server.url) as ops:
        paths = set(ops.client().get("/api/openapi.json").json()["paths"])
    assert documented == {*paths, "/api/openapi.json"}


@with_blocks(PAGE, "Rotating tokens and passwords")
def test_a_user_of_redis_may_have_two_passwords_for_a_while(blocks: list[Block], redis_server: RedisServer) -> None:
    (block,) = blocks
    (line,) = re.findall(r"ACL SETUSER .*$", block.text, re.MULTILINE)
    with redis_server.client() as client:
        command: Any = client.execute_command
        command("ACL", "SETUSER", "web", "on", ">old")
        command(*shlex.split(line))
        for password in ("old", "NEW-PASSWORD"):
            with (
                redis_server.client(username="web", password=password) as web,
                pytest.raises(redis.exceptions.NoPermissionError),
            ):
                web.get("x")  # signed in, and allowed nothing
        with redis_server.client(username="web", password="third") as web, pytest.raises(redis.AuthenticationError):
            web.get("x")
        client.acl_deluser("web")


def test_its_shares_of_memory_are_those_of_the_code() -> None:
    shares = [cells[0] for cells in pages.rows(PAGE, "share of `maxmemory`", "what stops")]

    assert shares == [
        *(f"{share * 100:.0f} %" for share in (memory.FAILURES_SHARE, memory.CALLBACKS_SHARE, memory.FAN_OUT_SHARE)),
        "never",
    ]
    text = pages.section(PAGE, "CallbacksRedisMemory")
    assert f"Above {memory.CALLBACKS_SHARE * 100:.0f} %" in text
    assert f"It resumes below {headroom._RESUME_BELOW * 100:.0f} %" in text
    assert f"one is tried every {headroom._PAUSE_SECONDS:.0f} s" in text


def test_its_picture_is_there() -> None:
    sources = re.findall(r'(?:src|srcset)="([^"]+)"', pages.text(PAGE))

    assert len(sources) == 3
    for source in sources:
        assert (REPOSITORY / "docs" / source).is_file(), source
