"""What a process has open: threads, and files, sockets and pipes (on systems that list them in /proc or /dev/fd)."""

import gc
import os
import threading
import time
from typing import Final

_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")
# A thread that was asked to stop may take a moment.
_WAIT_SECONDS: Final = 5.0


def find_left_open(before: frozenset[str]) -> list[str]:
    """Return descriptions of what is open now and was not `before`; wait up to 5 s for it to close."""
    deadline = time.monotonic() + _WAIT_SECONDS
    gc.collect()  # closes files and sockets that are not referenced any more
    while (left := list_open() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(left)


def list_open() -> frozenset[str]:
    """Return descriptions of this process's threads and open files."""
    threads = {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}
    return frozenset(threads | set(_open_descriptors()))


def _open_descriptors() -> list[str]:
    folder = next((folder for folder in _FOLDERS if os.path.isdir(folder)), None)  # noqa: PTH112 # of descriptors
    found: list[str] = []
    for number in os.listdir(folder) if folder else ():  # noqa: PTH208 # as above
        try:
            target = os.readlink(f"{folder}/{number}")  # noqa: PTH115 # as above
        except OSError:
            continue  # the descriptor that listed the folder
        if not target.startswith("/dev/"):
            found.append(f"descriptor {number}: {target}")
    return found
