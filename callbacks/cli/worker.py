"""`callbacks worker expand` and `callbacks worker deliver`: pools of worker processes under one supervisor."""

import sys
from collections.abc import Sequence
from typing import Final

import click
import msgspec

from callbacks.cli import termination
from callbacks.cli.command import Command, Group
from shared import connections, logs, queues, retention, settings, unknown_settings
from shared.background import Background
from shared.did_you_mean import did_you_mean
from shared.errors import ConfigurationError
from shared.liveness import Liveness
from shared.metrics import Metrics
from shared.metrics_push import MetricsPush
from shared.setting_groups.setting import Process
from workers.admin.action_trimmer import ActionTrimmer
from workers.expand import known_handlers, subscriptions
from workers.expand.known_handlers import KnownHandlers
from workers.failures.retention import FailureTrimmer
from workers.retention.service import RetentionService
from workers.retention.stores import AgingStore, open_stores
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.maintenance import Maintenance, MaintenanceTask
from workers.runtime.portions import PortionReaper
from workers.runtime.supervisor import Supervisor, WorkerSpec

# How long settling may take after the calls in progress have finished. A platform that kills after 10 s loses nothing:
# the job is then run again.
SETTLE_SECONDS: Final = 10.0
# A supervisor waits for Redis no longer than this, because it must notice a stop or the death of a worker in time.
_REDIS_TIMEOUT_SECONDS = 5.0
# For glibc's malloc. With memory of its own, the thread that fans out would give it back to the system after each chunk
# and get it again, page by page: 2 % of all CPU. A deliver worker keeps the default, for its handler's threads.
_EXPAND_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "1"}


@click.group(cls=Group)
def worker() -> None:
    """Worker processes: expand callbacks into events, deliver events to handlers."""


@worker.command(cls=Command)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes.")
def expand(processes: int) -> None:
    """Expand callbacks into events.

    The events go to the queues of the handlers that want them.
    """
    loaded = _settings("expand")
    known = _known(loaded)
    wanted = [filters for _, filters in known.by_name.values()]
    if not wanted:
        raise ConfigurationError(known.problems)
    spec = WorkerSpec(queues.EXPAND, ("--filters", msgspec.json.encode(wanted).decode()), _EXPAND_ENVIRONMENT)
    sys.exit(_supervise(loaded, [spec] * processes, grace_seconds=SETTLE_SECONDS, known=known))


@worker.command(cls=Command)
@click.option("--handler", "names", multiple=True, metavar="NAME", help="Only this handler; may be repeated.")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes per handler."
)
def deliver(names: tuple[str, ...], processes: int) -> None:
    """Deliver events to their handlers.

    Each handler has processes of its own.
    """
    loaded = _settings("deliver")
    known = _known(loaded)
    entries = {name: entry for name, (entry, _) in known.by_name.items()}
    unknown = sorted(set(names) - set(entries))
    if unknown:
        words = ", ".join(f"{name!r}{did_you_mean(name, entries)}" for name in unknown)
        there = ", ".join(sorted(entries)) or "none"
        raise ConfigurationError([f"--handler: no handler is called {words}; there are: {there}", *known.problems])
    if not entries:
        raise ConfigurationError(known.problems)
    specs = [
        WorkerSpec(queues.delivery_queue(name), ("--entry", entries[name]))
        for name in names or entries
        for _ in range(processes)
    ]
    seconds = max(known.timeout_seconds(name) for name in names or entries)
    stores = open_stores(loaded, {entries[name] for name in names or entries})
    sys.exit(_supervise(loaded, specs, grace_seconds=seconds + SETTLE_SECONDS, stores=stores))


def _settings(process: Process) -> settings.Settings:
    logs.configure()
    unknown_settings.log_warnings()
    return settings.load(process=process, needs=("REDIS_URL",))


def _known(loaded: settings.Settings) -> KnownHandlers:
    termination.exit_zero_on_signal()
    connection = connections.connect(loaded.redis_url, timeout_seconds=_REDIS_TIMEOUT_SECONDS)
    try:
        return known_handlers.load(loaded.handlers, connection)
    finally:
        connection.close()


def _supervise(
    loaded: settings.Settings,
    specs: Sequence[WorkerSpec],
    *,
    grace_seconds: float,
    known: KnownHandlers | None = None,
    stores: Sequence[AgingStore] = (),
) -> int:
    liveness = Liveness.from_environment(loaded.heartbeat_file)
    connection = connections.connect(loaded.redis_url, timeout_seconds=_REDIS_TIMEOUT_SECONDS)
    failure_trimmer = FailureTrimmer(
        connection=connection,
        quarantine_max_bytes=loaded.quarantine_max_bytes,
        dead_letter_max_bytes=loaded.dead_letter_max_bytes,
        days=retention.failure_days(loaded),
    )
    background = Background()
    tasks: dict[str, MaintenanceTask] = {
        "maintenance_trimming": failure_trimmer,
        "maintenance_portions": PortionReaper(connection),
        "maintenance_actions": ActionTrimmer(connection=connection, days=retention.action_days(loaded)),
    }
    if known is not None:
        tasks |= subscriptions.maintenance_tasks(known.filters, connection=connection)
    maintenance = Maintenance(
        [spec.queue for spec in specs],
        connection=connection,
        journals=JournalFolder.from_run_dir(loaded.run_dir),
        tasks=tasks,
        background=background,
    )
    # It counts only what retention removes, and pushes that a task of maintenance keeps failing.
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, loaded.redis_url, background=background)
    metrics_push.start()
    removal = RetentionService(stores, connection=connection, metrics=metrics, background=background)
    removal.start()
    try:
        return Supervisor(specs, maintenance=maintenance, grace_seconds=grace_seconds, liveness=liveness).run()
    finally:
        removal.close()
        metrics_push.close()
