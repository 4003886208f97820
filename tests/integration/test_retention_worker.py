"""A running `callbacks worker` keeps the shelves within their bytes, while they fill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import batches, keys
from tests.integration.pools import Command, until
from tests.integration.shelves import quarantined, weighed
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer

MOST = 1 << 20


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url) as made:
        yield made


@pytest.mark.parametrize("stage", ["expand", "deliver"])
def test_a_worker_s_supervisor_trims(b: Bench, tmp_path: Path, stage: str) -> None:
    for first in range(0, 3000, 500):
        b.keep(quarantined=[quarantined(n, at_ms=batches.now_ms()) for n in range(first, first + 500)])
    assert weighed(b, keys.QUARANTINE) > 2 * MOST

    command = Command(b, tmp_path / "worker.log", stage, CALLBACKS_QUARANTINE_MAX_BYTES=str(MOST))
    try:
        until(lambda: int(b.connection.get(keys.failures_bytes(keys.QUARANTINE))) <= MOST, "the quarantine is too full")
        until(lambda: "action=failures_dropped list=quarantine" in command.log, "nothing was said")
        assert command.stop() == 0
    finally:
        command.end()
    assert MOST // 2 < weighed(b, keys.QUARANTINE) <= MOST
    assert b.audit().balances
    assert b.audit().dropped == 3000 - len(b.quarantine())
