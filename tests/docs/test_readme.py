"""What the README says is so: its commands run, and its handler is called."""

import json
import re
from pathlib import Path

from callbacks.cli.main import main
from shared import queues
from tests.acceptance.processes import REPOSITORY, started
from tests.docs import pages
from tests.docs.pages import Block, with_blocks
from tests.docs.shell import shell
from tests.redis_server import free_port, require

BUNDLE_REPORTS = 3


def test_it_fits_on_two_screens() -> None:
    assert len(pages.text("README.md").splitlines()) <= 120


@with_blocks("README.md", "How a callback travels")
def test_its_picture_names_the_queues_and_the_handler_that_it_shows(blocks: list[Block]) -> None:
    (picture,) = blocks
    (handler,) = (block for block in pages.blocks("README.md") if block.language == "python")

    assert f'queue "{queues.EXPAND}"' in picture.text
    assert f'"{queues.delivery_queue("refund")}", "{queues.delivery_queue("sql")}"' in picture.text
    assert "def refund(event)" in handler.text
    assert "refund(event)" in picture.text


@with_blocks("README.md", "Try it")
def test_its_first_two_commands_are_make_demo_and_make_test(blocks: list[Block]) -> None:
    assert [block.text for block in blocks] == ["make demo\n", "make test\n"]
    makefile = (REPOSITORY / "Makefile").read_text()
    for target, recipe in (("demo", "callbacks demo"), ("test", "lint types imports tests")):
        assert re.search(rf"^{target}:.*({recipe}|\n.*{recipe})", makefile, re.MULTILINE)


@with_blocks("README.md", "Write your own handler")
def test_its_handler_is_called_by_the_commands_after_it(blocks: list[Block], tmp_path: Path) -> None:
    require()
    file, run, post = (block.text for block in blocks)
    (tmp_path / "orders.py").write_text(file)
    activate, service = run.splitlines()
    assert activate == ". .venv/bin/activate"
    variable, value, command = re.findall(r"^(\w+)=(\S+) callbacks (\w+)$", service)[0]
    with started(tmp_path, {variable: value}) as start:
        dev = start(command, "--port", str(free_port()))
        dev.until(lambda: "export REDIS_URL" in dev.output, "the lines to paste")

        line = next(line for line in dev.output.splitlines() if "callbacks simulate" in line)
        gateway = start(*line.split()[1:], "--undelivered", "0.5")
        assert gateway.wait() == 0, gateway.output
        dev.until(lambda: "refund " in dev.output, "a refund")

        url = re.findall(r"callback_url +(\S+)", dev.output)[0]
        for _ in range(2):
            posted = shell(post, CALLBACK_URL=url)
            assert json.loads(posted.stdout) == {"status": "accepted"}, posted.stderr
        dev.until(lambda: "14466445287300014004" in dev.output, "a line for each event of the bundle")

        export = next(line for line in dev.output.splitlines() if "export REDIS_URL" in line).strip()

        def reports() -> dict[str, int]:
            audited = shell(f"{export}\ncallbacks audit --json", tmp_path)
            totals: dict[str, int] = json.loads(audited.stdout)["records"]["report"]
            return totals

        dev.until(lambda: reports()["duplicate"] >= BUNDLE_REPORTS, "the repeated bundle to be known")
        dev.until(lambda: dev.output.count("repeat of the report at") >= BUNDLE_REPORTS, "a line for each repeat")


def test_make_demo_balances() -> None:
    require()
    demo = shell("make demo")

    assert demo.returncode == 0, demo.stderr
    assert "It balances" in demo.stdout


def test_make_test_runs_the_linters_the_type_checker_and_all_tests() -> None:
    planned = shell("make --dry-run test").stdout

    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"):
        assert tool in planned


def test_make_explains_itself() -> None:
    help_text = shell("make help").stdout

    for target in ("demo", "test", "unit", "docs", "lock", "clean"):
        assert f"make {target}" in help_text


def test_the_help_of_the_command_line_names_each_command() -> None:
    help_text = shell("callbacks --help").stdout

    for name in main.list_commands(None):  # type: ignore[arg-type] # no context is needed
        assert f"\n  {name} " in help_text
