"""Runs a page's commands as its reader does: in a shell, with the service's environment active."""

import os
import subprocess
from pathlib import Path

from tests.acceptance.processes import CALLBACKS, REPOSITORY


def shell(command: str, folder: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the lines of a block in `folder`, up to the first that fails."""
    path = f"{Path(CALLBACKS).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
