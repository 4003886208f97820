"""A clock of a host's own, which a test sets: see `clock.c`."""

import atexit
import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("clock.c")
_SECONDS: Final = struct.Struct("l")


class Clock:
    """The clock of the processes with this `environment`: as others' at first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(_SECONDS.pack(0))

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process have this clock, and all that it starts."""
        return {"LD_PRELOAD": str(_library()), "HOST_CLOCK": str(self._file)}

    def set(self, offset_seconds: int) -> None:
        """Have it differ from other clocks by this much, from now on."""
        with self._file.open("r+b") as file:
            file.write(_SECONDS.pack(offset_seconds))


def is_possible() -> bool:
    """Return whether there is a C compiler."""
    return shutil.which("cc") is not None


@functools.cache
def _library() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="callbacks-clock-"))
    atexit.register(shutil.rmtree, folder)
    library = folder / "clock.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
    return library
