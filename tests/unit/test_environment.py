"""What `make` runs to fill .venv: it shows each step, names no package index, and says at once what is missing."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callbacks.cli import redis_binary
from scripts import environment, stage

ROOT = Path(__file__).parents[2]
PIP = """Looking in indexes: https://index.example.org/simple
Collecting aiohttp==3.14.5 (from -r requirements-demo.txt (line 10))
  Downloading aiohttp-3.14.5-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl (1.7 MB)
Requirement already satisfied: Jinja2==3.1.6 in ./.venv/lib/python3.11/site-packages (from -r x.txt (line 2)) (3.1.6)
Collecting python-dotenv==1.2.4 (from -r requirements-demo.txt (line 10))
""".splitlines()
NAMES = {"aiohttp", "jinja2", "python-dotenv", "yarl"}


class Output(io.StringIO):
    """What a stage writes, on a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([], ""),
        (PIP[:1], ""),
        (PIP[:3], "1 of 4 downloaded, now aiohttp"),
        (PIP, "3 of 4 downloaded, now python-dotenv"),
        ([*PIP, "Installing collected packages: yarl, aiohttp"], "2 of 4 unpacked"),
    ],
)
def test_it_shows_how_far_pip_is(lines: list[str], shown: str) -> None:
    assert environment.progress(lines, NAMES, installed=2) == shown


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("Looking in indexes: https://user:secret@index.example.org/simple", "Looking in indexes: <address>"),
        ("Looking in links: file:///opt/wheels", "Looking in links: <address>"),
        ("from https://x.example.org/a/b-1.whl#sha256=1 (from yarl)", "from <address> (from yarl)"),
        (
            "HTTPSConnectionPool(host='index.example.org', port=443): Max",
            "HTTPSConnectionPool(host='<address>', port=443): Max",
        ),
        ("Failed to resolve 'files.example.net' ([Errno -2]", "Failed to resolve '<address>' ([Errno -2]"),
        ("error: dns error: files.example.com:443 is unknown", "error: dns error: <address> is unknown"),
        (
            "No matching distribution found for ruamel.yaml==0.18.1",
            "No matching distribution found for ruamel.yaml==0.18.1",
        ),
        ('  File "/x/site-packages/zope.io/a.py", line 1', '  File "/x/site-packages/zope.io/a.py", line 1'),
        ("aiohttp-3.14.5-cp311-cp311-manylinux2014_x86_64.whl", "aiohttp-3.14.5-cp311-cp311-manylinux2014_x86_64.whl"),
    ],
)
def test_it_names_no_address_that_packages_come_from(line: str, hidden: str) -> None:
    assert stage.hide_addresses(line) == hidden


def times(*seconds: float) -> Iterator[float]:
    yield from seconds


def test_elsewhere_than_on_a_terminal_a_line_follows_every_three_seconds() -> None:
    output, clock = Output(terminal=False), times(0.0, 1.0, 3.0, 4.0, 6.5, 7.0)
    step = stage.Stage("Installing", out=output, clock=lambda: next(clock))
    for detail in ("1 of 4", "2 of 4", "3 of 4", ""):
        step.show(detail)
    step.done()

    assert output.getvalue().splitlines() == [
        "Installing …",
        "Installing: 2 of 4, 3 s",
        "Installing: 6 s",
        "Installing: done in 7.0 s",
    ]


def test_on_a_terminal_one_line_is_rewritten() -> None:
    output, clock = Output(terminal=True), times(0.0, 1.0, 2.0)
    step = stage.Stage("Installing", out=output, clock=lambda: next(clock))
    step.show("1 of 4")
    step.done()

    assert output.getvalue().split("\r\x1b[K") == [
        "", "Installing …", "Installing: 1 of 4, 1 s", "Installing: done in 2.0 s\n"
    ]  # fmt: skip


def test_a_command_that_fails_says_why_without_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('no wheel at https://index.example.org/simple'); sys.exit(3)"

    with pytest.raises(stage.Failed) as raised:
        stage.run("Installing", [sys.executable, "-c", code], environment=os.environ)

    assert raised.value.lines == ("no wheel at <address>",)
    assert "done" not in capsys.readouterr().out


def test_what_a_command_prints_reaches_what_is_shown() -> None:
    seen: list[list[str]] = []

    def detail(lines: list[str]) -> str:
        seen.append([*lines])
        return ""

    stage.run(
        "Listing",
        [sys.executable, "-c", "print('a'); print('b')"],
        environment=os.environ,
        detail=detail,
    )

    assert seen[-1] == ["a", "b"]


@pytest.fixture
def without_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the environment be one in which nothing can be installed; return the folder that is the whole PATH."""
    monkeypatch.setattr(environment, "PYTHON", str(tmp_path / "no-python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_server_on_the_path_is_used_and_nothing_is_installed(
    without_packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = without_packages / "redis-server"
    server.write_text("#!/bin/sh\necho 'Redis server v=7.2.4 sha=0:0'\n")
    server.chmod(0o755)

    environment.provide_server(needed=True)

    assert capsys.readouterr().out == f"Redis server: {server}, version 7.2.4\n"


@pytest.mark.usefixtures("without_packages")
def test_without_any_the_demo_ends_with_what_to_install() -> None:
    with pytest.raises(environment.Problem) as raised:
        environment.provide_server(needed=True)

    assert str(raised.value).splitlines()[-1] == (
        f"There is no Redis server, and none could be installed: {redis_binary.INSTALL}, then run `make demo` again"
    )


@pytest.mark.usefixtures("without_packages")
def test_without_any_the_tests_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    environment.provide_server(needed=False)

    assert capsys.readouterr().out.endswith("tests that need one are skipped\n")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "VENV", tmp_path / "gone" / ".venv")
    monkeypatch.setattr(environment, "ROOT", tmp_path / "gone")

    with pytest.raises(environment.Problem, match=f"^{tmp_path}/gone cannot be written: "):
        environment.check_machine()


def test_make_installs_the_service_again_after_pip_made_a_copy_of_it(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements-demo.txt", "requirements-server.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / ".venv" / ".run").touch()
    pointer = packages / "__editable__.fortytwo_callbacks-0.1.0.pth"

    def planned() -> str:
        command = ["make", "--dry-run", "demo"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    pointer.touch()
    assert "scripts.environment" not in planned()
    pointer.unlink()
    assert "scripts.environment --editable --server requirements-demo.txt" in planned()
