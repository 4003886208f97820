"""`callbacks worker expand` and `callbacks worker deliver`: pools of worker processes under one supervisor."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from cli.command import Command
from shared import connections, logs, queues, settings
from shared.background import Background
from shared.errors import ConfigurationError
from shared.figures import Figures
from shared.spelling import did_you_mean
from shared.telling import Telling
from workers import registry
from workers.running.housekeeping import Housekeeping
from workers.running.notebooks import Notebooks
from workers.running.offering import ExpandHousekeeping
from workers.running.supervisor import Supervisor
from workers.running.trimming import Trimming

# What an event's handler may still need when the stop comes, with the default time-out of 30 s, and some more
# for what is settled after it. Platforms that kill after 10 s lose nothing by it: the job is then run again.
_SETTLE_SECONDS = 10.0
# A supervisor waits for Redis no longer than this, lest it hear too late that it is to stop, or that a worker died.
_REDIS_TIMEOUT_SECONDS = 5.0


@click.group()
def worker() -> None:
    """Worker processes: expand callbacks into events, deliver events to handlers."""


@worker.command(cls=Command)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes.")
def expand(processes: int) -> None:
    """Expand callbacks into events.

    These are handed to the queues of the handlers that want them.
    """
    loaded = settings.load(needs=("REDIS_URL",))
    offered = [handler.name for handler in registry.load(loaded.handlers)]
    sys.exit(_supervise(loaded, [queues.EXPAND] * processes, grace_seconds=_SETTLE_SECONDS, offered=offered))


@worker.command(cls=Command)
@click.option("--handler", "names", multiple=True, metavar="NAME", help="Only this handler; may be repeated.")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes a handler."
)
def deliver(names: tuple[str, ...], processes: int) -> None:
    """Deliver events to their handlers.

    Each handler has processes of its own.
    """
    loaded = settings.load(needs=("REDIS_URL",))
    handlers = {handler.name: handler for handler in registry.load(loaded.handlers)}
    unknown = sorted(set(names) - set(handlers))
    if unknown:
        told = ", ".join(f"{name!r}{did_you_mean(name, handlers)}" for name in unknown)
        known = ", ".join(sorted(handlers))
        raise ConfigurationError([f"--handler: no handler is called {told}; there are: {known}"])
    chosen = [handlers[name] for name in names or handlers]
    sys.exit(
        _supervise(
            loaded,
            [queues.delivery(handler.name) for handler in chosen for _ in range(processes)],
            grace_seconds=max(handler.timeout_seconds for handler in chosen) + _SETTLE_SECONDS,
        )
    )


def _supervise(
    loaded: settings.Settings, queue_names: list[str], *, grace_seconds: float, offered: Sequence[str] = ()
) -> int:
    logs.configure()
    connection = connections.connect(loaded.redis_url, timeout_seconds=_REDIS_TIMEOUT_SECONDS)
    notebooks = Notebooks.of(loaded.run_dir)
    trimming = Trimming(
        connection=connection,
        quarantine_max_bytes=loaded.quarantine_max_bytes,
        dead_letter_max_bytes=loaded.dead_letter_max_bytes,
    )
    background = Background()
    keeping: dict[str, Any] = {
        "connection": connection,
        "notebooks": notebooks,
        "trimming": trimming,
        "background": background,
    }
    housekeeping = (
        ExpandHousekeeping(queue_names, handlers=offered, **keeping)
        if offered
        else Housekeeping(queue_names, **keeping)
    )
    # It counts nothing, and is silent unless a task of maintenance keeps failing.
    telling = Telling(Figures(), loaded.redis_url, background=background)
    telling.start()
    try:
        return Supervisor(queue_names, housekeeping=housekeeping, grace_seconds=grace_seconds).run()
    finally:
        telling.close()
