"""The plugin for pytest: fixtures whose names begin with `callbacks_`. Unused, it loads neither RQ nor Redis."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from workers import Event, ReplyEvent, ReportEvent, samples
from workers.testing.worker import Result, Worker


@pytest.fixture
def callbacks_report() -> Callable[..., ReportEvent]:
    """Make a report: `callbacks_report("UNDELIV", client_message_id="order-7")`; see `workers.samples.report`."""
    return samples.report


@pytest.fixture
def callbacks_reply() -> Callable[..., ReplyEvent]:
    """Make a reply: `callbacks_reply("Yes, please")`; see `workers.samples.reply`."""
    return samples.reply


@pytest.fixture(params=samples.NAMES)
def callbacks_event(request: pytest.FixtureRequest) -> Event:
    """Give each of the samples in turn; `@pytest.mark.parametrize("callbacks_event", […], indirect=True)`: some."""
    return samples.one(request.param)


@pytest.fixture
def callbacks_worker() -> Iterator[Callable[[Callable[..., Any]], Worker]]:
    """Give the worker of a handler, opened at its first use and closed after the test: `callbacks_worker(refund)`."""
    workers: dict[Callable[..., Any], Worker] = {}
    with ExitStack() as stack:

        def worker(handler: Callable[..., Any]) -> Worker:
            if handler not in workers:
                workers[handler] = stack.enter_context(Worker(handler))
            return workers[handler]

        yield worker


@pytest.fixture
def callbacks_deliver(
    callbacks_worker: Callable[[Callable[..., Any]], Worker],
) -> Callable[[Callable[..., Any], Event], Result]:
    """Hand a handler one event, and give what became of it: `callbacks_deliver(refund, event).outcome == "done"`."""

    def deliver(handler: Callable[..., Any], event: Event) -> Result:
        return callbacks_worker(handler).deliver(event)

    return deliver
