"""A running `callbacks worker` keeps the lists of failures within their bytes, while they fill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import batches, keys
from tests.integration.failures.failure_lists import checked_bytes, quarantined
from tests.integration.harness import Harness, open_harness
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer

MAX_BYTES = 1 << 20


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url) as made:
        yield made


@pytest.mark.parametrize("stage", ["expand", "deliver"])
def test_a_supervisor_trims(harness: Harness, tmp_path: Path, stage: str) -> None:
    for first in range(0, 3000, 500):
        harness.accept(quarantined=[quarantined(n, at_ms=batches.now_ms()) for n in range(first, first + 500)])
    assert checked_bytes(harness, keys.QUARANTINE) > 2 * MAX_BYTES

    command = Command(harness, tmp_path / "worker.log", stage, CALLBACKS_QUARANTINE_MAX_BYTES=str(MAX_BYTES))
    try:
        until(
            lambda: int(harness.connection.get(keys.failures_bytes(keys.QUARANTINE))) <= MAX_BYTES,
            "the quarantine is too full",
        )
        until(lambda: "action=failures_dropped list=quarantine" in command.log, "nothing was logged")
        assert command.stop() == 0
    finally:
        command.end()
    assert MAX_BYTES // 2 < checked_bytes(harness, keys.QUARANTINE) <= MAX_BYTES
    assert harness.audit().balances
    assert harness.audit().dropped == 3000 - len(harness.quarantine())
