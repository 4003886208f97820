"""What tests of forwarding through real workers stand on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.harness import Harness, open_harness, statuses
from tests.redis_server import RedisServer


@pytest.fixture
def start(quick_redis: RedisServer) -> Iterator[Callable[..., Harness]]:
    """Return a function that makes a harness for handlers, with `events` events waiting at each."""
    with ExitStack() as stack:

        def start(*functions: Callable[..., Any], events: int) -> Harness:
            harness = stack.enter_context(open_harness(quick_redis.url, *functions))
            harness.accept(*statuses([str(n) for n in range(events)]))
            harness.expand()
            return harness

        yield start
