"""Network namespaces without a name: each lives as long as a process in it or a descriptor of it, and leaves nothing.

A thread enters a namespace for a moment: the sockets it opens and the processes it starts there stay there.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# From linux/sched.h.
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWNET: Final = 0x40000000
_KINDS: Final = ("net", "uts")
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network of its own with a host name of its own; a context manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "not Linux")
        before = _own()
        try:
            _checked(_libc.unshare(_CLONE_NEWNET | _CLONE_NEWUTS))
            Path("/proc/sys/kernel/hostname").write_text(self.name, encoding="ascii")
            # Nobody asks for addresses of IPv6, and neighbours would be asked whether they have them.
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1", encoding="ascii")
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
            self._descriptors = _own()
        finally:
            _enter(before)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    @property
    def paths(self) -> list[str]:
        """The files by which another process finds this namespace."""
        return [f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in self._descriptors]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread be here, and in no other place, until the end of the block."""
        before = _own()
        try:
            for descriptor in self._descriptors:
                _checked(_libc.setns(descriptor, 0))
            yield
        finally:
            _enter(before)

    def processes(self) -> list[int]:
        """Return the pids of all processes that are here."""
        own = os.fstat(self._descriptors[0])
        return [pid for pid in _pids() if _network_of(pid) == (own.st_dev, own.st_ino)]


def _own() -> list[int]:
    return [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in _KINDS]


def _enter(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        _checked(_libc.setns(descriptor, 0))
        os.close(descriptor)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _network_of(pid: int) -> tuple[int, int] | None:
    try:
        found = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return None  # ended meanwhile
    return found.st_dev, found.st_ino
