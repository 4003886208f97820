"""docs/releasing.md is so: its command is a target of make, its rule has fixtures, and one place says the version."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from callbacks.distribution import DISTRIBUTION
from tests.acceptance.processes import run
from tests.acceptance.stored import fixture
from tests.docs import pages
from tests.docs.pages import REPOSITORY, Block, with_blocks
from tests.integration.ops.ops_client import opened
from tests.redis_server import RedisServer

PAGE = "docs/releasing.md"
VERSION = str(tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


@with_blocks(PAGE, "How to make a release")
def test_its_archives_are_built_by_a_target_of_make(blocks: list[Block]) -> None:
    (block,) = blocks
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")

    assert block.text == "make dist-check\n"
    assert re.search(r"^dist-check: dist .*\n\t\$\(BIN\)/python -m scripts\.dist_check$", makefile, re.MULTILINE)
    assert re.search(r"^dist: .*\n\t\$\(BIN\)/python -m scripts\.dist ", makefile, re.MULTILINE)


def test_its_table_names_what_is_public_and_what_is_not() -> None:
    promises = {cells[1] for cells in pages.rows(PAGE, "what", "promise", "how it changes")}

    assert {promise.split(",")[0].split(" ")[0] for promise in promises} == {"public", "stored", "private"}


def test_the_version_has_a_fixture_and_a_section_of_the_changelog() -> None:
    assert VERSION in {path.stem for path in fixture.paths()}
    headings = pages.headings("CHANGELOG.md")
    assert headings[1] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(VERSION)} - 20\d\d-\d\d-\d\d", headings[2])


def test_each_place_says_the_version_of_pyproject_toml(redis_server: RedisServer, tmp_path: Path) -> None:
    assert metadata.version(DISTRIBUTION) == VERSION
    assert VERSION in run("--version", cwd=tmp_path).stdout
    with opened(redis_server.url) as ops:
        assert ops.client().get("/api/openapi.json").json()["info"]["version"] == VERSION
