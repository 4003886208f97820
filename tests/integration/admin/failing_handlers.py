"""Two handlers of the same events: `bad` fails until the file RECORDER_FILE is there, `good` never does."""

import os
from pathlib import Path

from callbacks import ReportEvent, handler
from tests.integration.recorders import VARIABLE


@handler(ReportEvent, attempts=8)
def bad(event: ReportEvent) -> None:
    if not Path(os.environ[VARIABLE]).exists():
        raise RuntimeError("as it was told")


@handler(ReportEvent, attempts=8)
def good(event: ReportEvent) -> None:
    """Succeed."""
