"""deploy/README.md: a section for each alert, and commands that are real."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import redis

from benchmarks import sizing, table
from benchmarks.command import RESULTS
from tests.acceptance.processes import REPOSITORY, run
from tests.deploy.deployment import DEPLOY, TOKEN
from tests.integration.runtime import stored_formats
from tests.redis_server import RedisServer

RUNBOOK = (DEPLOY / "README.md").read_text()
# Of each alert, where it sends the person whom it wakes.
LINKS = re.findall(
    r"alert: (\w+)\n(?:.*\n)*?\s+runbook_url: deploy/README\.md#(\w+)", (DEPLOY / "prometheus/alerts.yml").read_text()
)
BLOCKS = re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
COMMANDS = sorted({line for block in BLOCKS for line in block.splitlines() if line.startswith("callbacks ")})


def test_there_are_alerts() -> None:
    assert len(LINKS) > 10


@pytest.mark.parametrize(("alert", "anchor"), LINKS)
def test_each_alert_leads_to_its_section(alert: str, anchor: str) -> None:
    (text,) = re.findall(rf"^## {alert}\n\n((?:.+\n)+)", RUNBOOK, re.MULTILINE)

    assert anchor == alert.lower()
    assert len(text) > 50


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs(command: str, redis_server: RedisServer, tmp_path: Path) -> None:
    words = shlex.split(command.replace("HANDLER", "shop"))[1:]
    if "HANDLER" in command:
        with redis_server.client(decode_responses=False) as client:
            stored_formats.put_back(
                client, stored_formats.read(stored_formats.STORED / "0.1.0.json")
            )  # with dead letters of `shop`

    ended = run(*words, cwd=tmp_path, environment={"REDIS_URL": redis_server.url, "CALLBACKS_TOKENS": f"main={TOKEN}"})

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_section_that_another_names_is_there() -> None:
    headings = set(re.findall(r"^#+ (.*)$", RUNBOOK, re.MULTILINE))

    assert set(re.findall(r'see "([^"]+)"', RUNBOOK, re.IGNORECASE)) <= headings
    assert set(re.findall(r"\bsee ([A-Z][a-z]+[A-Z]\w+)", RUNBOOK)) <= headings


def test_each_folder_of_its_table_is_there() -> None:
    for name in re.findall(r"`(\w+)/`", RUNBOOK.partition("## First")[0]):
        assert (DEPLOY / name).is_dir(), name


def test_each_variable_of_the_security_notes_is_a_setting() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", RUNBOOK + (REPOSITORY / "SECURITY.md").read_text()):
        assert f"| `{name}` |" in readme or name.startswith("OTEL_"), name


def test_a_user_of_redis_may_have_two_passwords_for_a_while(redis_server: RedisServer) -> None:
    (line,) = re.findall(r"ACL SETUSER .*$", RUNBOOK, re.MULTILINE)
    with redis_server.client() as client:
        command: Any = client.execute_command
        command("ACL", "SETUSER", "web", "on", ">old")
        command(*shlex.split(line))
        for password in ("old", "NEW-PASSWORD"):
            with (
                redis_server.client(username="web", password=password) as web,
                pytest.raises(redis.exceptions.NoPermissionError),
            ):
                web.get("x")  # let in, and allowed nothing
        with redis_server.client(username="web", password="third") as web, pytest.raises(redis.AuthenticationError):
            web.get("x")
        client.acl_deluser("web")


def test_its_sizing_is_what_the_kept_results_give() -> None:
    made = "\n".join(sizing.lines(table.read(RESULTS)))

    assert table.replace_table(RUNBOOK, made, begin=table.BEGIN_SIZING) == RUNBOOK
