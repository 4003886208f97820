"""Install each archive of a release, with the locked packages, into an empty environment, and run `callbacks demo`.

Nothing but that environment is on the PATH, so the Redis server is the one of the extra `server`. The demo runs in an
empty folder, and in one with a project of somebody who has packages of the same names as the service.
"""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from scripts.dist import ROOT, SUMS, Problem

LOCKS: Final = ("requirements-demo.txt", "requirements-server.txt")
PROJECT_NAMES: Final = ("callbacks", "ingest", "shared", "workers")
_FOREIGN: Final = "raise RuntimeError('a module of the project was imported')\n"


def main() -> None:
    """Check the archives in `dist`. Exits with 1 and a sentence if one of them does not work."""
    folder = ROOT / "dist"
    try:
        for line in (folder / SUMS).read_text().splitlines():
            check(folder / line.partition("  ")[2])
    except Problem as exc:
        sys.exit(str(exc))


def check(archive: Path) -> None:
    """Install `archive`, run it, and print what it says. Raise Problem."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with TemporaryDirectory() as work:
        binaries = install(archive, Path(work, "venv"))
        said = run(str(binaries / "callbacks"), "--version", cwd=Path(work), path=binaries).split()[-1]
        if said != version:
            raise Problem(f"{archive.name} says that it is {said}, and pyproject.toml that it is {version}")
        empty, project = Path(work, "empty"), Path(work, "project")
        empty.mkdir()
        for name in PROJECT_NAMES:
            (project / name).mkdir(parents=True)
            (project / name / "__init__.py").write_text(_FOREIGN)
        for folder in (empty, project):
            result = json.loads(run(str(binaries / "callbacks"), "demo", "--json", cwd=folder, path=binaries))
            if not result["balances"]:
                raise Problem(f"{archive.name}: the demo does not balance: {result}")
            delivered = result["totals"]["delivered to 'log'"]
            print(f"{archive.name}: {delivered} events of the demo delivered, in {folder.name} folder")


def install(archive: Path, folder: Path) -> Path:
    """Install `archive` and the locked packages into a new environment in `folder`; return its `bin`."""
    venv.create(folder, with_pip=True)
    binaries = folder / "bin"
    pip = (str(binaries / "python"), "-m", "pip", "--disable-pip-version-check")
    locks = [word for lock in LOCKS for word in ("-r", str(ROOT / lock))]
    run(*pip, "install", "--quiet", "--only-binary", ":all:", "--require-hashes", *locks, cwd=folder, path=binaries)
    # The lock has the build backend too.
    run(*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", str(archive), cwd=folder, path=binaries)
    run(*pip, "check", cwd=folder, path=binaries)
    return binaries


def run(*command: str, cwd: Path, path: Path) -> str:
    """Return what a command prints, run with `path` as its whole PATH. Raise Problem."""
    known = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CALLBACKS_", "REDIS_"))
    }
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=known | {"PATH": str(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise Problem(f"{' '.join(command)} failed: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout


if __name__ == "__main__":
    main()
