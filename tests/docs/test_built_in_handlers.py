"""docs/built-in-handlers.md is so: its handlers and options are those of the code, its settings make a handler."""

import json
import re
import shutil
from importlib.metadata import entry_points, metadata
from pathlib import Path

import pytest

from callbacks.distribution import DISTRIBUTION
from tests.docs import pages
from tests.docs.pages import Block, with_blocks
from tests.docs.shell import shell
from workers.handlers.forward import options, targets

PAGE = "docs/built-in-handlers.md"


def test_its_table_names_the_handlers_that_come_with_the_service() -> None:
    named = [cells[0].strip("`") for cells in pages.rows(PAGE, "name", "what it does", "a repeated event")]
    installed = {point.name for point in entry_points(group="callbacks.handlers") if point.value.startswith("workers.")}

    assert set(named) == installed
    for name in named:
        assert any(heading.startswith(f"`{name}`") for heading in pages.headings(PAGE)), f"{name} has no section"


@with_blocks(PAGE, "`sql`: every message in a database", "`forward`: events to your HTTP services")
def test_its_settings_make_a_handler(blocks: list[Block], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on the PATH")
    for block, name in zip(blocks, ("sql", "forward"), strict=True):
        install, *exports = block.text.splitlines()
        listed = shell("\n".join([*exports, "callbacks handlers --json"]), tmp_path)

        lines = [json.loads(line) for line in listed.stdout.splitlines()]
        assert [line["name"] for line in lines if line["kind"] == "named"] == [name], listed.stderr
        assert install.startswith("pip install -e ")
        assert_extras(install.removeprefix("pip install -e "))


@with_blocks(PAGE, "`optout`: who wants no further messages")
def test_a_number_that_opted_out_is_not_written_to(blocks: list[Block], tmp_path: Path) -> None:
    exported, checked = blocks[0].text.splitlines()
    database = re.sub(r"DATABASE_URL=\S+", f"DATABASE_URL=sqlite:///{tmp_path}/callbacks.db", exported)

    said = shell("\n".join([database, "echo 0035679000123 | callbacks optouts import", checked]), tmp_path)
    assert said.stdout.endswith("do not write to this number\n")
    other = shell("\n".join([database, checked.replace("35679000123", "447700900123")]), tmp_path)
    assert "may be written to" in other.stdout
    assert "do not write" not in other.stdout


def assert_extras(requirement: str) -> None:
    (extras,) = re.findall(r"^'\.\[([\w,]+)\]'$", requirement)
    offered = metadata(DISTRIBUTION).get_all("Provides-Extra", [])
    for extra in extras.split(","):
        assert extra in offered


def test_its_options_of_a_target_are_those_of_the_code() -> None:
    rows = pages.rows(PAGE, "option", "default", "meaning")
    named = {name for cells in rows for name in re.findall(r"`_(\w+)`", cells[0])}

    assert named == set(options.PARSERS)
    defaults = {cells[0].strip("`"): cells[1] for cells in rows}
    assert defaults["_TIMEOUT_SECONDS"] == f"{targets.TIMEOUT_SECONDS:.0f}"
    assert defaults["_CONCURRENCY"] == str(targets.CONCURRENCY)
    assert f"up to {targets.CONCURRENCY} at the same time" in pages.text(PAGE)
