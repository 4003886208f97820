"""Install the peers' packages: `python -m benchmarks.peers.install`, into benchmarks/.venv and node_modules.

What cannot be installed is said, and its peers are then absent from every table; `--lock` compiles the locks anew.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.contestants import NODE, PEERS, PYTHON
from benchmarks.machine import missing

_REQUIREMENTS: Final = PEERS / "requirements.txt"
_COMPILE: Final = ("--quiet", "--generate-hashes", "--allow-unsafe", "--no-emit-index-url", "--no-emit-find-links")
_QUIET_NPM: Final = ("--no-audit", "--no-fund", "--ignore-scripts")
_QUIET_PIP: Final = ("--quiet", "--disable-pip-version-check")
# A lock names what is to be installed, not where from.
_NOT_IN_LOCK: Final = ("resolved", "funding")


def main() -> int:
    """Give 0 if everything could be installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.install", description=__doc__)
    parser.add_argument("--lock", action="store_true", help="compile requirements.txt and package-lock.json anew")
    options = parser.parse_args()
    steps = [_lock_python, _lock_node] if options.lock else [_python, _node]
    return sum(not _done(step.__name__, step()) for step in steps)


def _done(name: str, why_not: str) -> bool:
    print(f"{name.strip('_').replace('_', ' ')}: {why_not or 'done'}")
    return not why_not


def _python() -> str:
    venv = PYTHON.parents[1]
    return _run([sys.executable, "-m", "venv", str(venv)]) or _run(
        [str(PYTHON), "-m", "pip", "install", *_QUIET_PIP, "--require-hashes", "-r", str(_REQUIREMENTS)]
    )


def _node() -> str:
    # Not `npm ci`: it wants every platform's optional binaries in the lock, and not every registry has them.
    return missing("npm") or _run(["npm", "install", "--no-save", *_QUIET_NPM], cwd=NODE)


def _lock_python() -> str:
    compiler = str(Path(sys.executable).with_name("pip-compile"))
    # From within the folder, as the lock quotes the files as they are named here.
    names = ["--output-file", _REQUIREMENTS.name, "requirements.in"]
    return _run([compiler, *_COMPILE, "--strip-extras", *names], cwd=PEERS)


def _lock_node() -> str:
    if why := missing("npm") or _run(["npm", "install", "--package-lock-only", *_QUIET_NPM], cwd=NODE):
        return why
    lock = NODE / "package-lock.json"
    output = json.loads(lock.read_text())
    packages: dict[str, dict[str, Any]] = output["packages"]
    for package in packages.values():
        for key in _NOT_IN_LOCK:
            package.pop(key, None)
    lock.write_text(json.dumps(output, indent=2) + "\n")
    return ""


def _run(command: list[str], *, cwd: Path | None = None) -> str:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else f"{command[0]} ended with {ended.returncode}: {ended.stderr[-2000:]}"


if __name__ == "__main__":
    sys.exit(main())
