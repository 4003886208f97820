"""A process in a terminal of its own, of a given size: what it writes there is kept, and keys can be pressed."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.processes import CALLBACKS, WAIT_SECONDS


class Terminal:
    """`callbacks …` in a terminal."""

    def __init__(self, *arguments: str, cwd: Path, environment: Mapping[str, str], columns: int, rows: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            # The terminal is the process's own, so that Ctrl-C pressed there reaches it.
            ["setsid", "--ctty", CALLBACKS, *arguments],
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """All that was written, with whatever steers the terminal."""
        return self._written.decode(errors="replace")

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for_output(self, words: str, *, times: int = 1) -> None:
        """Wait until `words` were written so often."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.output.count(words) < times:
            assert time.monotonic() < deadline, f"{words!r} was not written:\n{self.output}"
            assert self.process.poll() is None or self.output.count(words) >= times, self.output
            time.sleep(0.05)

    def wait(self) -> int:
        """Return its exit code, when all that it wrote has been read."""
        code = self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_SECONDS)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the last process has left the terminal
                return
            self._written += data


@contextmanager
def in_terminal(
    *arguments: str, cwd: Path, environment: Mapping[str, str], columns: int = 100, rows: int = 40
) -> Iterator[Terminal]:
    """Yield `callbacks …` in a terminal, and end it."""
    terminal = Terminal(*arguments, cwd=cwd, environment=environment, columns=columns, rows=rows)
    try:
        yield terminal
    finally:
        terminal.end()
