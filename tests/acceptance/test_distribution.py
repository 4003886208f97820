"""What is released: a wheel and a source archive that hold all that runs, and a plain install that runs it."""

import configparser
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement

from callbacks.distribution import DISTRIBUTION
from scripts import dist
from tests.acceptance.processes import REPOSITORY
from tests.docs import pages

PACKAGES = ("callbacks", "ingest", "shared", "workers")
MADE_AT = 1_800_000_000  # seconds since 1970
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

# Import each command, as calling it would, and print the errors.
IMPORT_COMMANDS = """
import json, click
from callbacks.cli.main import main
errors = {}
for name in main.list_commands(None):
    try:
        main.get_command(None, name)
    except click.ClickException as exc:
        errors[name] = exc.message
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the archives; the wheel is built from the source archive."""
    folder = tmp_path_factory.mktemp("release")
    dist.build(_copied(folder / "source"), folder / "dist", made_at=MADE_AT)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def plain_install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment with the wheel and its dependencies, and nothing that only an extra has."""
    folder = tmp_path_factory.mktemp("plain")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    binaries = folder / "venv" / "bin"
    install = ("install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile")
    _run(sys.executable, "-m", "pip", "--python", str(binaries / "python"), *install, str(wheel), cwd=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for path in _dependencies():
        (site / path.name).symlink_to(path)
    return binaries


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert names == set(_package_files())
    for needed in (
        *(f"{name}/py.typed" for name in PACKAGES),
        "workers/expand/fan_out.lua",
        "callbacks/ops/html/templates/base.html",
        "callbacks/ops/html/static/style.css",
    ):
        assert needed in names


def test_the_source_archive_has_every_file_of_the_repository(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in names if ".egg-info/" not in name} - made == set(_repository_files())


def test_another_build_has_the_same_bytes(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built elsewhere, later, by somebody with other rights, another zone and another order of files."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    before = os.umask(0o077)
    try:
        dist.build(_copied(tmp_path / "elsewhere", reverse=True), tmp_path / "dist", made_at=MADE_AT)
    finally:
        os.umask(before)

    assert _digests(tmp_path / "dist") == _digests(built)


def test_the_wheel_says_what_the_project_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        entry_points = configparser.ConfigParser(delimiters=("=",))
        entry_points.read_string(archive.read(f"{folder}/entry_points.txt").decode())
        licence = archive.read(f"{folder}/licenses/LICENSE")

    assert folder == f"fortytwo_callbacks-{PROJECT['version']}.dist-info"
    assert metadata["Name"] == DISTRIBUTION
    assert metadata["License-Expression"] == PROJECT["license"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == (REPOSITORY / "README.md").read_text().strip()
    assert licence == (REPOSITORY / "LICENSE").read_bytes()
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert dict(entry_points["console_scripts"]) == PROJECT["scripts"]
    for group, points in PROJECT["entry-points"].items():
        assert dict(entry_points[group]) == points


@pytest.mark.parametrize("arguments", [("--version",), ("check", "--help")])
def test_a_plain_install_runs(plain_install: Path, arguments: tuple[str, ...], tmp_path: Path) -> None:
    output = _run(str(plain_install / "callbacks"), *arguments, cwd=tmp_path)

    assert PROJECT["version"] in output if arguments == ("--version",) else output.startswith("Usage: callbacks ")


def test_it_has_all_but_the_commands_of_extras_and_these_say_what_to_install(
    plain_install: Path, tmp_path: Path
) -> None:
    errors = json.loads(_run(str(plain_install / "python"), "-c", IMPORT_COMMANDS, cwd=tmp_path))

    started = set(re.findall(r"callbacks (\w+)", (REPOSITORY / "Procfile").read_text()))
    assert started == {"web", "worker", "ops"}
    assert started.isdisjoint(errors)
    of_sql = {"backfill", "jobs", "message", "messages", "optouts", "stats"}
    assert set(errors) <= {"demo", "dev", "simulate", *of_sql}
    assert "pip install 'fortytwo-callbacks[dev]'" in errors["simulate"]
    assert errors["stats"] == "SQLAlchemy is not installed: pip install 'fortytwo-callbacks[sql]'"
    for error in errors.values():
        assert error.count("pip install") == 1


def _package_files() -> Iterator[str]:
    for name in _repository_files():
        if name.partition("/")[0] in PACKAGES:
            yield name


def _repository_files() -> Iterator[str]:
    for path in pages.files():
        if path.name != ".git":  # a file in a second work tree
            yield str(path.relative_to(REPOSITORY))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _copied(folder: Path, *, reverse: bool = False) -> Path:
    """Copy the repository to `folder`, as building leaves files there; return it."""
    for name in sorted(_repository_files(), reverse=reverse):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def _dependencies() -> set[Path]:
    """Return the installed files and folders of what the project needs without extras, and of what that needs."""
    found: set[Path] = set()
    seen: set[str] = set()
    waiting = [Requirement(need) for need in PROJECT["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        if requirement.name in seen or not _applies(requirement):
            continue
        seen.add(requirement.name)
        distribution = importlib.metadata.distribution(requirement.name)
        tops = {PurePath(file).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        found |= {Path(str(distribution.locate_file(top))) for top in tops}
        waiting += [Requirement(need) for need in distribution.requires or ()]
    return found


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _run(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
