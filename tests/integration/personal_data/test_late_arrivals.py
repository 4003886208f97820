"""What still arrives for a forgotten number is counted and dropped, and the audit balances."""

import json
import time
from collections.abc import Iterator

import pytest

from shared import batches, keys
from tests.integration.harness import Harness, open_harness, record, reply, status
from tests.integration.scripted_handlers import script, single
from tests.redis_server import RedisServer
from workers.expand import forgotten

NUMBER = "35699777123"


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single) as made:
        yield made


def test_nothing_of_a_forgotten_number_becomes_an_event_or_a_failure(harness: Harness) -> None:
    forgotten.remember(harness.connection, [NUMBER, "35600000000"], seconds=60)
    harness.accept(status(record("1"), record("2", to=f"+{NUMBER}"), record("3")), reply("r", text=f"ask 00{NUMBER}"))
    harness.accept(batches.Accepted("status", "gw", 1, 1, json.dumps({"data": [{"status": 7, "to": NUMBER}]})))

    harness.expand()
    harness.deliver(single)

    assert script.called == ["1", "3"]
    sums = harness.audit()
    assert (sums.forgotten, sums.unique, sums.quarantined, sums.balances) == (3, 2, 0, True)
    assert NUMBER.encode() not in b"".join(
        value for key in harness.connection.keys("cb:*") for value in [harness.connection.dump(key)]
    )


def test_a_number_is_forgotten_for_its_time_alone(harness: Harness) -> None:
    forgotten.remember(harness.connection, [NUMBER], seconds=60)
    forgotten.remember(harness.connection, ["35600000000"], seconds=3600)
    (key, *digests) = sorted(harness.connection.hgetall(keys.FORGOTTEN), key=lambda name: name != b"key")
    assert key == b"key"
    assert len(digests) == 2
    assert 60 < harness.connection.ttl(keys.FORGOTTEN) <= 3600

    for digest in digests:
        harness.connection.hset(keys.FORGOTTEN, digest, int(time.time()) - 1)
    harness.accept(status(record("2", to=NUMBER)))
    harness.expand()
    harness.deliver(single)

    assert script.called == ["2"]
    assert harness.audit().forgotten == 0
