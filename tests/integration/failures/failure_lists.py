"""Fill the lists of failures as the service does, and count what they hold."""

from callbacks import Reject, ReplyEvent, ReportEvent, handler
from shared import keys
from shared.batches import Quarantined
from tests.integration.harness import RECEIVED_MS, Harness, record, status

# Any body that this release reads, but an older one did not.
READABLE = b'{"data":[{"message_id":"%d","status":"SEEN","to":"35699000001"}]}'


@handler(ReportEvent, ReplyEvent)
def refusing(event: ReportEvent | ReplyEvent) -> None:
    raise Reject("no")


def die(harness: Harness, *message_ids: str) -> None:
    """Make a report of each message a dead letter of `refusing`."""
    harness.accept(status(*(record(message_id) for message_id in message_ids)))
    harness.expand()
    harness.deliver(refusing)


def quarantined(number: int, *, body: bytes = b"", at_ms: int = RECEIVED_MS, records: int = 1) -> Quarantined:
    return Quarantined(
        kind=None,
        source="gw",
        received_ms=at_ms,
        error="an older rule",
        body=body or READABLE % number,
        records=records,
    )


def ids(harness: Harness, index: str) -> list[str]:
    """Return the ids in an index, oldest first."""
    return [failure_id.decode() for failure_id in harness.connection.zrange(index, 0, -1)]


def checked_bytes(harness: Harness, index: str) -> int:
    """Return the stored bytes of a list, after checking that they are the sum of its failures' bytes."""
    stored_bytes = int(harness.connection.get(keys.failures_bytes(index)) or 0)
    assert stored_bytes == sum(
        int(harness.connection.hget(keys.failure(index, each), "bytes") or 0) for each in ids(harness, index)
    )
    return stored_bytes
