"""Whatever the repository says to install is this service, under its own name, with extras that it has."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from callbacks.distribution import DISTRIBUTION, MissingExtra, install_command
from workers import registry
from workers.declaration import HandlerError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What documents and the Makefile say to install as well.
OTHERS = frozenset(("checkov", "httpx", "pytest"))
# Its examples are wrong on purpose.
THIS_FILE = Path(__file__).relative_to(ROOT)

# The first requirement after the options: what follows it may be the sentence around the command.
_COMMAND = re.compile(
    r"\bpip install(?: +(?>-r +\S+|-[\w-]+))* +(?:'([^'{]+)'|\"([^\"]+)\"|(\.(?=\W|$)|[A-Za-z][\w.\[\],-]*(?<![.,])))"
)
_REQUIREMENT = re.compile(r"(?P<name>\.|[\w.-]+)(?:\[(?P<extras>[\w,]+)\])?")
# `callbacks[sql]` as a requirement; Python's subscripts are not: these follow a letter or have no extra's name.
_SHORT_NAME = re.compile(rf"(?<![\w.-])callbacks\[(?:ops|{'|'.join(EXTRAS)})[\],]|[\"']callbacks *[<>=~!]=")


def lines() -> Iterator[tuple[Path, str]]:
    """Yield each line of every text file that is kept."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = listed.split("\0") if listed else [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*")]
    for name in filter(None, names):
        path = ROOT / name
        if Path(name) == THIS_FILE or name.startswith(("benchmarks/peers/", ".venv")) or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        yield from ((Path(name), line) for line in text.splitlines())


def problem(line: str) -> str:
    """Return what is wrong with what `line` says to install, or ""."""
    if _SHORT_NAME.search(line):
        return "the requirement `callbacks` is another project's"
    for quotes in _COMMAND.findall(line):
        requirement = "".join(quotes)
        found = _REQUIREMENT.fullmatch(requirement)
        if found is None or found["name"] not in {".", DISTRIBUTION, *OTHERS}:
            return f"{requirement} is not this service"
        if unknown := set(filter(None, (found["extras"] or "").split(","))) - set(EXTRAS):
            return f"there is no extra {unknown}"
    return ""


def test_each_install_command_and_requirement_names_this_service() -> None:
    wrong = [f"{path}: {line.strip()}: {found}" for path, line in lines() if (found := problem(line))]

    assert wrong == []


def test_every_dependency_on_the_service_has_its_name() -> None:
    for path in (ROOT / "examples").glob("*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        names = [re.split(r"[\[<>=~! ]", need)[0] for need in project["dependencies"]]
        assert DISTRIBUTION in names, path
        assert "callbacks" not in names, path


@pytest.mark.parametrize(
    "line",
    [
        "pip install callbacks",
        "pip install --upgrade callbacks",
        "pip install 'callbacks[sql]'",
        "install it: `pip install 'callbacks'`.",
        "<code>pip install fortytwo_callback</code>",
        "pip install 'fortytwo-callbacks[ops]'",
        "pip install '.[sql,nothing]'",
        'needs `callbacks[otel]`"',
        'dependencies = ["callbacks>=1"]',
    ],
)
def test_a_wrong_name_or_extra_is_found(line: str) -> None:
    assert problem(line)


@pytest.mark.parametrize(
    "line",
    [
        "pip install .",
        "pip install '.[all]'",
        "pip install fortytwo-callbacks",
        "`pip install 'fortytwo-callbacks[sql,postgres]'`, then",
        "python -m pip install --quiet --no-deps -e .",
        "pip install pytest",
        "pip install -r requirements.txt",
        'line.startswith("pip install ")',
    ],
)
def test_a_right_one_is_not(line: str) -> None:
    assert not problem(line)


def test_the_project_has_the_name_that_hints_give() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert install_command() == "pip install fortytwo-callbacks"
    assert install_command("sql") == "pip install 'fortytwo-callbacks[sql]'"


def test_the_extra_all_is_every_other() -> None:
    (needed,) = EXTRAS["all"]
    found = _REQUIREMENT.fullmatch(needed)

    assert found
    assert found["name"] == DISTRIBUTION
    assert set(found["extras"].split(",")) == set(EXTRAS) - {"all"}


def test_a_missing_extra_is_said_once() -> None:
    missing = MissingExtra("SQLAlchemy", module="sqlalchemy", extra="sql")

    assert str(missing) == "SQLAlchemy is not installed: pip install 'fortytwo-callbacks[sql]'"
    assert missing.name == "sqlalchemy"


@pytest.mark.parametrize(("entry", "module"), [("sql", "sqlalchemy"), ("forward", "httpx")])
def test_a_handler_without_its_extra_is_refused_with_nothing_but_that(
    entry: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    for name in [name for name in sys.modules if name.startswith(f"workers.handlers.{entry}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else real(name, *more))

    with pytest.raises(HandlerError) as refused:
        registry.load([entry])

    assert re.fullmatch(
        rf"CALLBACKS_HANDLERS: '{entry}': \w+ is not installed: pip install 'fortytwo-callbacks\[{entry}\]'",
        str(refused.value),
    )
