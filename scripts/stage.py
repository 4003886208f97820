"""One step of the installation: it says what it does, that it still runs, and how long it took.

On a terminal its line is rewritten; elsewhere a line follows every few seconds.
"""

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TextIO

_LINE_EVERY_SECONDS: Final = 3.0
_REDRAW_EVERY_SECONDS: Final = 0.2
_COLUMNS: Final = 100
_SHOWN_LINES: Final = 15
# The address of a package index may contain a password, so no line shows one.
_ADDRESS: Final = re.compile(
    r"\b(?:https?|file)://[^\s,'\"]+"
    r"|(?<![\w./@-])(?:[\w-]+\.)+(?:com|corp|dev|internal|io|lan|local|net|org)(?::\d+)?(?![\w.=-])"
)


class Failed(Exception):
    """A command ended with an error; `lines` is the end of what it printed."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


class Stage:
    """A line with a title, what is done now, and the seconds since it began."""

    def __init__(self, title: str, *, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._out = out or sys.stdout
        self._clock = clock
        self._rewrites = self._out.isatty()
        self._began = self._printed = clock()
        self._write(f"{title} …")

    def show(self, detail: str) -> None:
        """Show `detail`: at once on a terminal, elsewhere if no line was printed for some seconds."""
        now = self._clock()
        if self._rewrites or now - self._printed >= _LINE_EVERY_SECONDS:
            self._printed = now
            self._write(f"{self._title}: {detail + ', ' if detail else ''}{now - self._began:.0f} s")

    def done(self) -> None:
        """End the line with the time that it took."""
        self._write(f"{self._title}: done in {self._clock() - self._began:.1f} s")
        if self._rewrites:
            self._out.write("\n")
        self._out.flush()

    def failed(self) -> None:
        """End the line, so that an error begins on one of its own."""
        if self._rewrites:
            self._out.write("\n")
        self._out.flush()

    def _write(self, line: str) -> None:
        self._out.write(f"\r\x1b[K{line[:_COLUMNS]}" if self._rewrites else f"{line}\n")
        self._out.flush()


def run(
    title: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    detail: Callable[[list[str]], str] = lambda _lines: "",
) -> None:
    """Run `command` as a stage; `detail` makes of the lines printed so far what the stage shows. Raises Failed."""
    stage = Stage(title)
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,  # a question would wait unseen
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        lines = _printed(process, lambda so_far: stage.show(detail(so_far)))
    if process.returncode:
        stage.failed()
        raise Failed([hide_addresses(line) for line in lines[-_SHOWN_LINES:]])
    stage.done()


def hide_addresses(line: str) -> str:
    """Return the line without URLs and names of hosts."""
    return _ADDRESS.sub("<address>", line)


def _printed(process: subprocess.Popen[str], show: Callable[[list[str]], None]) -> list[str]:
    """Return the lines that the process prints until it ends; call `show` with them all the while."""
    assert process.stdout is not None
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout, arrived), daemon=True)
    reader.start()
    lines: list[str] = []
    while True:
        try:
            line = arrived.get(timeout=_REDRAW_EVERY_SECONDS)
        except queue.Empty:
            pass
        else:
            if line is None:
                return lines
            lines.append(line.rstrip())
        show(lines)


def _read(output: TextIO, arrived: "queue.SimpleQueue[str | None]") -> None:
    for line in output:
        arrived.put(line)
    arrived.put(None)
