"""The commands of the pages next to the benchmarks and the example are real."""

import re

from tests.acceptance.processes import REPOSITORY
from tests.docs import pages
from tests.docs.pages import Block, with_blocks
from tests.docs.shell import shell


@with_blocks("benchmarks/README.md", "Benchmarks")
def test_the_benchmarks_are_targets_of_make(blocks: list[Block]) -> None:
    (block,) = blocks
    for command in block.text.splitlines():
        planned = shell(f"make --dry-run {command.partition('#')[0].split()[1]}")
        assert planned.returncode == 0, planned.stderr
        assert "benchmarks" in planned.stdout


def test_each_command_of_the_benchmarks_table_is_a_module() -> None:
    for module in re.findall(r"`python -m (benchmarks[\w.]*)", pages.text("benchmarks/README.md")):
        path = REPOSITORY / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@with_blocks("examples/callbacks-unreachable/README.md", "callbacks-unreachable")
def test_the_example_is_installed_and_run_as_the_tests_of_the_package_do(blocks: list[Block]) -> None:
    """`test_example_package` installs it, without network, and starts a worker with this variable."""
    (block,) = blocks
    install, run = block.text.splitlines()
    tests = (REPOSITORY / "tests" / "acceptance" / "test_example_package.py").read_text()

    assert install == "pip install ."
    assert run == "CALLBACKS_HANDLERS=unreachable callbacks worker deliver"
    assert '"CALLBACKS_HANDLERS": "unreachable"' in tests
    assert 'start("worker", "deliver", **setting)' in tests
