"""The plugin for pytest: fixtures whose names begin with `callbacks_`.

It imports nothing of the service until a fixture is used: a project may have a `workers/` of its own, and tests of it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from callbacks import own_packages

if TYPE_CHECKING:
    from callbacks import Event, ReplyEvent, ReportEvent
    from workers.testing.worker import Result, Worker


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `callbacks_event` with each of the samples, unless the test parametrizes it itself."""
    if "callbacks_event" not in metafunc.fixturenames:
        return
    for marker in metafunc.definition.iter_markers("parametrize"):
        names = marker.args[0] if marker.args else marker.kwargs["argnames"]
        if "callbacks_event" in (names.replace(" ", "").split(",") if isinstance(names, str) else names):
            return
    metafunc.parametrize("callbacks_event", _samples().NAMES, indirect=True)


@pytest.fixture
def callbacks_report() -> "Callable[..., ReportEvent]":
    """Return a function that makes a report: `callbacks_report("UNDELIV", client_message_id="order-7")`.

    See `callbacks.samples.report`.
    """
    make: Callable[..., ReportEvent] = _samples().report
    return make


@pytest.fixture
def callbacks_reply() -> "Callable[..., ReplyEvent]":
    """Return a function that makes a reply: `callbacks_reply("Yes, please")`; see `callbacks.samples.reply`."""
    make: Callable[..., ReplyEvent] = _samples().reply
    return make


@pytest.fixture
def callbacks_event(request: pytest.FixtureRequest) -> "Event":
    """Return each of the samples in turn.

    For some of them only: `@pytest.mark.parametrize("callbacks_event", ["reply", "seen"], indirect=True)`.
    """
    event: Event = _samples().one(request.param)
    return event


@pytest.fixture
def callbacks_worker() -> "Iterator[Callable[[Callable[..., Any]], Worker]]":
    """Yield a function that returns the worker of a handler: `callbacks_worker(refund)`; closed after the test."""
    worker_class = _worker()
    workers: dict[Callable[..., Any], Any] = {}
    with ExitStack() as stack:

        def worker(handler: Callable[..., Any]) -> "Worker":
            if handler not in workers:
                workers[handler] = stack.enter_context(worker_class(handler))
            opened: Worker = workers[handler]
            return opened

        yield worker


@pytest.fixture
def callbacks_deliver(
    callbacks_worker: "Callable[[Callable[..., Any]], Worker]",
) -> "Callable[[Callable[..., Any], Event], Result]":
    """Return a function that delivers an event to a handler: `callbacks_deliver(refund, event).outcome == "done"`."""

    def deliver(handler: Callable[..., Any], event: "Event") -> "Result":
        return callbacks_worker(handler).deliver(event)

    return deliver


def _samples() -> ModuleType:
    from callbacks import samples  # noqa: PLC0415 # only where it is used

    return samples


def _worker() -> "type[Worker]":
    try:
        from workers.testing.worker import Worker  # noqa: PLC0415 # only where it is used
    except ImportError:
        other = own_packages.find_foreign("workers")
        if other is None:
            raise
        raise pytest.UsageError(
            f"Python imports {other} as 'workers' instead of this service's package. Rename it, or run the tests of "
            "handlers from a folder without it."
        ) from None
    return Worker
