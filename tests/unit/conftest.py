"""What unit tests share: fixtures that live beside what they make."""

import pytest

from ingest import log
from shared.rate_limited_log import RateLimitedLog
from tests.unit.spools import hurried, opened

__all__ = ["hurried", "opened"]


@pytest.fixture(autouse=True)
def _no_line_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test with rate-limited logs that have written nothing yet."""
    for name in ("limited", "_unexpected"):
        monkeypatch.setattr(log, name, RateLimitedLog(log.logger, interval_seconds=60))
