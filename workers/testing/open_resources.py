"""What a process has open: threads, and files, sockets and pipes (on systems that show them in /proc or /dev/fd)."""

import gc
import os
import threading
import time
from typing import Final

_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")
# A thread that was told to end may take a moment for it.
_WAIT_SECONDS: Final = 5.0


def find_left_open(before: frozenset[str]) -> list[str]:
    """Give what is open now and was not `before`, in words; what is on its way to its end is waited for."""
    deadline = time.monotonic() + _WAIT_SECONDS
    gc.collect()  # what nobody holds any more is as good as closed
    while (left := list_open() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(left)


def list_open() -> frozenset[str]:
    """Give the threads and the open files of this process, in words."""
    threads = {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}
    return frozenset(threads | set(_open_descriptors()))


def _open_descriptors() -> list[str]:
    folder = next((folder for folder in _FOLDERS if os.path.isdir(folder)), None)  # noqa: PTH112 # of descriptors
    found: list[str] = []
    for number in os.listdir(folder) if folder else ():  # noqa: PTH208 # as above
        try:
            target = os.readlink(f"{folder}/{number}")  # noqa: PTH115 # as above
        except OSError:
            continue  # the one that listed the folder
        if not target.startswith("/dev/"):
            found.append(f"descriptor {number}: {target}")
    return found
