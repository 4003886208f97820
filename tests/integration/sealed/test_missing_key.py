"""What the log, the lists and the commands say of jobs whose key is missing."""

import pytest

from callbacks import ReportEvent, handler
from shared import queues, sealed_data
from tests.integration.harness import open_harness, record, status
from tests.integration.sealed.conftest import NEW, OLD
from workers.admin.give_up import GiveUpStep
from workers.admin.purge import Purged, Purger
from workers.admin.retry_rows import RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries


@handler(ReportEvent)
def first(event: ReportEvent) -> None:
    raise AssertionError(f"{event.id} cannot be read")


def test_the_log_of_a_worker_names_the_missing_key(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_harness(url, first) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        harness.accept(status(record("2")))
        sealed_data.use([NEW])
        harness.expand()
        harness.deliver(first)

    for queue in (queues.EXPAND, queues.delivery_queue("first")):
        assert f"action=job_sealed queue={queue} key={OLD.id.hex()}" in caplog.text
    assert "action=job_failed" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_retry_whose_key_is_missing_is_listed_and_left_with_the_key_named(url: str) -> None:
    with open_harness(url, first) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        sealed_data.use([NEW])
        harness.deliver(first)
        (row,) = ScheduledRetries(harness.connection).iterate(RetryFilter())
        given_up = GiveUpStep(harness.connection).run([("first", row.job_id)])
        purged = [*Purger(harness.connection, "first").run()]

        assert row.error.startswith(f"sealed with key {OLD.id.hex()}, which is not in CALLBACKS_SEAL_KEYS_FILE")
        assert given_up.left == (row.job_id,)
        assert purged == [Purged(0, 1, row.error)]
        assert harness.audit().balances
