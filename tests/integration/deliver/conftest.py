"""What tests of delivery stand on."""

from collections.abc import Iterator

import pytest

from tests.integration.harness import Harness, open_harness
from tests.integration.scripted_handlers import other, single, whole
from tests.redis_server import RedisServer


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    """Yield a harness for the scripted handlers; a module with other handlers has a fixture of its own."""
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made
