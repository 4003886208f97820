"""deploy/README.md is so: its folders are there, its commands run."""

import re
import shlex
from pathlib import Path

import pytest

from shared import tracing
from tests.acceptance.processes import REPOSITORY, run
from tests.deploy.deployment import TOKEN
from tests.docs import pages
from tests.docs.pages import Block, with_blocks
from tests.docs.test_built_in_handlers import assert_extras
from tests.redis_server import RedisServer

PAGE = "deploy/README.md"


def test_its_table_names_each_folder() -> None:
    rows = pages.rows(PAGE, "folder", "what is there")
    folders = {path.name for path in (REPOSITORY / "deploy").iterdir() if path.is_dir()}

    assert {name for cells in rows for name in re.findall(r"`(\w+)/`", cells[0])} == folders - {"pictures"}


@with_blocks(PAGE, "Processes")
def test_one_command_installs_what_the_procfile_starts_and_its_extras_are_offered(blocks: list[Block]) -> None:
    (install,) = (block.text.strip() for block in blocks)

    assert install == "pip install ."
    for extras in re.findall(r"`('\.\[[\w,]+\]')`", pages.text(PAGE)):
        assert_extras(extras)


@with_blocks(PAGE, "First deployment", "Upgrade")
def test_each_command_runs(blocks: list[Block], redis_server: RedisServer, tmp_path: Path) -> None:
    environment = {"REDIS_URL": redis_server.url, "CALLBACKS_TOKENS": f"main={TOKEN}"}
    for command in (line for block in blocks for line in block.text.splitlines()):
        program, *words = shlex.split(command)

        ended = run(*words, cwd=tmp_path, environment=environment)

        assert program == "callbacks"
        assert ended.returncode == 0, ended.stdout + ended.stderr


@with_blocks(PAGE, "Traces")
def test_its_variables_turn_traces_on(blocks: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    (exports,) = (block.text for block in blocks)
    sampler = pytest.importorskip("opentelemetry.sdk.trace.sampling")

    assert not tracing.is_enabled()
    for name, value in re.findall(r"(OTEL_\w+)=(\S+)", exports):
        monkeypatch.setenv(name, value)

    assert tracing.is_enabled()
    assert "TraceIdRatioBased{0.01}" in sampler._get_from_env_or_default().get_description()
