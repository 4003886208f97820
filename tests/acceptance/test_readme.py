"""What the README says is so: its tables match the code, its commands run."""

import re
import shutil
from pathlib import Path

import pytest

from cli.main import main
from shared import settings
from tests.acceptance.processes import REPOSITORY, run, started
from tests.redis_server import free_port, require

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def rows_after(heading: str) -> list[list[str]]:
    """Give the cells of the first table after a line that begins with `heading`."""
    _, found, rest = README.partition(f"\n{heading}")
    assert found, f"the README has no {heading!r}"
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.group().splitlines()[2:]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_table_of_settings_is_that_of_the_code() -> None:
    _, _, rest = README.partition("| variable | default | meaning |")
    told = [line for line in rest.splitlines()[2:] if line.startswith("|")][: len(settings.table())]

    def shown(default: str) -> str:
        return default if default.startswith(("none", "standard output")) else f"`{default}`"

    assert told == [f"| `{row.variable}` | {shown(row.default)} | {row.help} |" for row in settings.table()]


def test_the_table_of_commands_is_that_of_the_command_line() -> None:
    told = {re.findall(r"`callbacks (\w+)", cells[0])[0] for cells in rows_after("## Commands")}

    assert told == set(main.commands) | set(main.list_commands(None))  # type: ignore[arg-type] # no context is needed


@pytest.mark.parametrize("arguments", [cells[0].strip("`").split()[1:] for cells in rows_after("## Commands")])
def test_every_command_takes_help(arguments: list[str], tmp_path: Path) -> None:
    ended = run(*(word for word in arguments if word.islower()), "--help", cwd=tmp_path)

    assert ended.returncode == 0
    assert "Usage: callbacks" in ended.stdout


def test_its_first_two_commands_are_make_demo_and_make_test() -> None:
    assert [block.strip() for block in blocks("sh")[:2]] == ["make demo", "make test"]
    makefile = (REPOSITORY / "Makefile").read_text()
    for target, recipe in (("demo", "callbacks demo"), ("test", "lint types imports tests")):
        assert re.search(rf"^{target}:.*({recipe}|\n.*{recipe})", makefile, re.MULTILINE)


def test_its_handler_is_called_by_the_commands_beside_it(tmp_path: Path) -> None:
    require()
    (tmp_path / "orders.py").write_text(blocks("python")[0])
    (variable, value), command = (
        re.findall(r"^(\w+)=(\S+) callbacks (\w+)", blocks("sh")[2], re.MULTILINE)[0][:2],
        "dev",
    )
    with started(tmp_path, {variable: value, "PYTHONUNBUFFERED": "1"}) as start:
        dev = start(command, "--port", str(free_port()))
        dev.until(lambda: "callbacks simulate" in dev.output, "the line to paste")
        line = next(line for line in dev.output.splitlines() if "callbacks simulate" in line)
        _, *arguments = line.split()

        gateway = start(*arguments, "--undelivered", "0.5")
        assert gateway.wait() == 0, gateway.output
        dev.until(lambda: "refund " in dev.output, "a refund")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_explains_itself(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415 # only here

    told = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    for target in ("demo", "test", "unit", "lock", "clean"):
        assert f"make {target}" in told
