"""A handler that writes down each call of it: the event, and when (a clock that all hosts share, in seconds)."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from callbacks import ReplyEvent, ReportEvent, handler
from tests.integration.recorders import append_lines, read_lines

_FILE: Final = "recorder.txt"
# Half of the time of a host's one process, so that hosts are cut off amid calls too.
_CALL_SECONDS: Final = 0.01


@handler(ReportEvent, ReplyEvent)
def recorder(event: ReportEvent | ReplyEvent) -> None:
    """Write a line into the folder of the host, then take the time that a call takes."""
    append_lines(Path(_FILE), f"{event.id} {os.getpid()} {time.monotonic()}")
    time.sleep(_CALL_SECONDS)


def read(folders: Iterable[Path]) -> list[tuple[str, float]]:
    """Return the calls on all hosts: event, when."""
    files = [folder / _FILE for folder in folders]
    return [(words[0], float(words[2])) for file in files if file.exists() for words in read_lines(file)]
