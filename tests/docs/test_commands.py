"""docs/commands.md is so: its table has each command, and its examples run."""

import json
import shlex
from pathlib import Path

import click
import pytest

from callbacks.cli.main import main
from tests.acceptance.processes import get, run, started
from tests.docs import pages
from tests.docs.pages import REPOSITORY, Block, with_blocks
from tests.docs.shell import shell
from tests.redis_server import RedisServer, free_port

PAGE = "docs/commands.md"
COMMANDS = [cells[0].strip("`").split()[1:] for cells in pages.rows(PAGE, "command", "what it does")]


def test_its_table_has_each_command_of_the_command_line() -> None:
    context = click.Context(main)

    assert {words[0] for words in COMMANDS} == set(main.list_commands(context))


def test_its_table_names_each_subcommand() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        rows = "\n".join(row for row in pages.text(PAGE).splitlines() if row.startswith(f"| `callbacks {name}"))
        if isinstance(command, click.Group):
            for subcommand in set(command.commands) - {"list"}:
                assert f"`{subcommand}`" in rows or f"`callbacks {name} {subcommand}`" in rows, f"{name} {subcommand}"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_takes_help(words: list[str], tmp_path: Path) -> None:
    ended = run(*(word for word in words if word.islower()), "--help", cwd=tmp_path)

    assert ended.returncode == 0
    assert "Usage: callbacks" in ended.stdout


@with_blocks(PAGE, "Examples")
def test_its_examples_run(blocks: list[Block], tmp_path: Path, redis_server: RedisServer) -> None:
    simulate, one_event, audit, top, tail, messages, overdue, check = (block.text.strip() for block in blocks)
    port, token = free_port(), "documented-token-5d20"
    settings = {
        "REDIS_URL": redis_server.url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"documented={token}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_HANDLERS": "sql",
        "DATABASE_URL": f"sqlite:///{tmp_path}/callbacks.db",
    }
    with started(tmp_path, settings) as start:
        web = start("web")
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        start("worker", "expand")
        deliver = start("worker", "deliver")
        following = start(*shlex.split(tail)[1:])
        following.until(lambda: "Listening" in following.output, "the connection")

        url = f"http://127.0.0.1:{port}/callbacks/{token}"
        campaign = shell(simulate.replace("http://127.0.0.1:8080/callbacks/TOKEN", url), tmp_path)
        assert campaign.returncode == 0, campaign.stdout + campaign.stderr
        assert (tmp_path / "ledger.jsonl").exists()
        for _ in range(2):
            sent = shell(one_event.replace("http://127.0.0.1:8080/callbacks/TOKEN", url), tmp_path)
            assert "200 accepted" in sent.stdout, sent.stderr
        assert following.wait() == 0, following.output

        deliver.until(lambda: run("audit", cwd=tmp_path, environment=settings).returncode == 0, "the balance")
        audited = shell(audit, tmp_path, **settings)
        assert audited.returncode == 0, audited.stdout + audited.stderr
        shown = shell(top, tmp_path, **settings)
        assert json.loads(shown.stdout), shown.stderr
        listed = shell(messages, tmp_path, **settings)
        assert listed.returncode == 0, listed.stderr
        late = shell(overdue, tmp_path, **settings)
        assert late.returncode == 0, late.stderr
        assert "message_id" in listed.stdout.splitlines()[0]

        (tmp_path / "body.json").write_bytes((REPOSITORY / "tests" / "payloads" / "status_bundle.json").read_bytes())
        checked = shell(check, tmp_path)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "200 accepted: 3 events" in checked.stdout
