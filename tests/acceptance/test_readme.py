"""What the README says is so: its tables match the code, its commands run."""

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import metadata
from pathlib import Path
from typing import Final

import pytest

from benchmarks import table
from benchmarks.command import RESULTS
from callbacks.cli.main import main
from shared import settings
from tests.acceptance.processes import CALLBACKS, REPOSITORY, run, started
from tests.redis_server import free_port, require

PACKAGES: Final = ("callbacks", "ingest", "shared", "workers")
README: Final = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def rows_after(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a line that begins with `heading`."""
    _, found, rest = README.partition(f"\n{heading}")
    assert found, f"the README has no {heading!r}"
    rows = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert rows
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows.group().splitlines()[2:]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_table_of_settings_is_that_of_the_code() -> None:
    _, _, rest = README.partition("| variable | default | meaning |")
    told = [line for line in rest.splitlines()[2:] if line.startswith("|")][: len(settings.table_rows())]

    def shown(default: str) -> str:
        return default if default.startswith(("none", "standard output")) else f"`{default}`"

    assert told == [f"| `{row.variable}` | {shown(row.default)} | {row.help} |" for row in settings.table_rows()]


def test_the_table_of_commands_is_that_of_the_command_line() -> None:
    told = {re.findall(r"`callbacks (\w+)", cells[0])[0] for cells in rows_after("## Commands")}

    assert told == set(main.commands) | set(main.list_commands(None))  # type: ignore[arg-type] # no context is needed


def test_the_table_of_figures_is_what_the_kept_results_give() -> None:
    assert table.replace_table(README, "\n".join(table.lines(table.read(RESULTS)))) == README


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
    variable, value, command = re.findall(r"^(\w+)=(\S+) callbacks (\w+)", blocks("sh")[2], re.MULTILINE)[0]
    with started(tmp_path, {variable: value}) as start:
        dev = start(command, "--port", str(free_port()))
        dev.until(lambda: "export REDIS_URL" in dev.output, "the lines to paste")

        line = next(line for line in dev.output.splitlines() if "callbacks simulate" in line)
        gateway = start(*line.split()[1:], "--undelivered", "0.5")
        assert gateway.wait() == 0, gateway.output
        dev.until(lambda: "refund " in dev.output, "a refund")

        url = re.findall(r"callback_url +(\S+)", dev.output)[0]
        posted = shell(blocks("sh")[3], CALLBACK_URL=url)
        assert json.loads(posted.stdout) == {"status": "accepted"}, posted.stderr

        export = next(line for line in dev.output.splitlines() if "export REDIS_URL" in line)
        audited = shell(f"cd {tmp_path} && {export} && {CALLBACKS} audit --json")
        assert json.loads(audited.stdout)["records"]["report"]["received"] > 0, audited.stderr


def test_its_settings_for_forward_make_a_handler(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on the PATH")
    install, *exports = next(block for block in blocks("sh") if "CALLBACKS_FORWARD_URL" in block).strip().splitlines()
    extra = re.findall(r"\.\[(\w+)\]", install)[0]

    told = shell("\n".join([*exports, f"cd {tmp_path}", f"{CALLBACKS} handlers --json"]))

    assert extra in metadata("callbacks").get_all("Provides-Extra", [])
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["name"] for line in lines if line["kind"] == "named"] == ["forward"], told.stderr


def test_make_demo_balances() -> None:
    require()
    demo = shell("make demo")

    assert demo.returncode == 0, demo.stderr
    assert "It balances" in demo.stdout


def test_make_test_runs_the_linters_the_type_checker_and_all_tests() -> None:
    planned = shell("make --dry-run test").stdout

    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"):
        assert tool in planned


def test_what_pip_installs_has_all_that_runs(tmp_path: Path) -> None:
    install = "pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation"

    shell(f"cp -r {' '.join(PACKAGES)} pyproject.toml README.md {tmp_path}")
    done = shell(f"cd {tmp_path} && {Path(CALLBACKS).with_name('python')} -m {install} --target installed .")

    assert done.returncode == 0, done.stderr
    scripts = {path.name for path in (tmp_path / "installed" / "workers").rglob("*.lua")}
    assert scripts == {path.name for path in (REPOSITORY / "workers").rglob("*.lua")} > {"fan_out.lua"}
    entry_points = next((tmp_path / "installed").glob("callbacks-*.dist-info/entry_points.txt")).read_text()
    assert "callbacks = callbacks.launcher:main" in entry_points


def test_make_explains_itself() -> None:
    told = shell("make help").stdout

    for target in ("demo", "test", "unit", "lock", "clean"):
        assert f"make {target}" in told


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the README as its reader does, in the repository's folder."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
