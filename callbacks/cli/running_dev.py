"""Where the `callbacks dev` that runs in this folder is: other commands use its addresses when no other is named.

It describes itself in a file, which counts only while the lock of its folder is held.
"""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from callbacks.cli import folder_lock

DEFAULT_FOLDER: Final = Path("var/dev")
_FILE: Final = "running.json"


class RunningDev(Struct, frozen=True):
    """What other commands need to know of a running `callbacks dev`."""

    redis_url: str
    handlers: str
    """As in CALLBACKS_HANDLERS."""
    callbacks_url: str
    """The base of the two callback URLs."""
    database_url: str = ""
    """Of the handler `sql`."""


def write(folder: Path, running: RunningDev) -> None:
    """Write the file, readable only by its owner: it holds a password."""
    file = folder / _FILE
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(running))


def find(folder: Path = DEFAULT_FOLDER) -> RunningDev | None:
    """Return the `callbacks dev` that runs with its files in `folder`, if one does and we may read them."""
    try:
        running = msgspec.json.decode((folder / _FILE).read_bytes(), type=RunningDev)
        return running if folder_lock.is_locked(folder) else None
    except (OSError, msgspec.MsgspecError):
        return None
