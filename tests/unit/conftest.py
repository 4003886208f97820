"""What unit tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest import log
from ingest.spool import drainer
from ingest.spool.folder import SpoolFolder


@pytest.fixture(autouse=True)
def _nothing_was_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the first line of every kind, whatever others logged in this process."""
    for limited in (log.limited, log._unexpected):
        monkeypatch.setattr(limited._counter, "_kinds", {})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., SpoolFolder]]:
    """Return a function that opens the folder again, as another process would."""
    folders: list[SpoolFolder] = []

    def open_folder(*, limit_bytes: int = 1 << 30) -> SpoolFolder:
        folder = SpoolFolder(tmp_path / "spool", limit_bytes=limit_bytes)
        folder.open()
        folders.append(folder)
        return folder

    yield open_folder
    for folder in folders:
        folder.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the drainer's intervals."""
    monkeypatch.setattr(drainer, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(drainer, "PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(drainer, "CHECK_SECONDS", 0.005)
