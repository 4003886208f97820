"""One worker process for one queue, which the supervisor starts and watches.

It prepares for its queue, works until it is asked to stop, and ends by itself when its supervisor is gone.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import redis

from shared import connections, gc_tuning, library_parts, logs, queues, sealed_data, settings, tracing
from shared.background import Background
from shared.errors import CallbacksError, ConfigurationError
from shared.metrics import Metrics
from shared.metrics_push import MetricsPush
from shared.structured_log import get_logger
from workers import activity, jobs, registry
from workers.activity import ActivityPublisher, WorkerReady
from workers.declaration import Handler
from workers.deliver.activity import DeliveryActivity
from workers.deliver.call.caller import Caller
from workers.deliver.call.lifespan import LifespanFailed
from workers.deliver.call.spans import CallSpans
from workers.deliver.delivery import Deliverer
from workers.expand.activity import ExpandActivity
from workers.expand.expansion import Expander
from workers.expand.spans import ExpandSpans
from workers.failures.failed_jobs import FailedJob
from workers.filters import Filters, from_handler
from workers.runtime import rq_lines
from workers.runtime.exit_codes import EXIT_CONFIGURATION, EXIT_FAILURE
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.redis_availability import redis_availability
from workers.runtime.worker import QueueWorker

log = get_logger("callbacks.worker")


def main() -> int:
    """Work on one queue; return the exit code: 0 after a stop, 1 after an error, 2 if it could not be set up."""
    parser = argparse.ArgumentParser(prog="workers.process", description=main.__doc__)
    parser.add_argument("queue")
    parser.add_argument("--name", required=True, help="the worker's name in RQ")
    parser.add_argument("--entry", help="the entry of CALLBACKS_HANDLERS with the queue's handler; default: any")
    parser.add_argument("--filters", help="which events the handlers want, as JSON; default: as their modules say")
    parser.add_argument("--lifeline", type=int, help="a pipe that the supervisor holds open while it is alive")
    parser.add_argument("--grace-seconds", type=float, default=30.0, help="how long the stop may take after that")
    options = parser.parse_args()
    logs.configure()
    rq_lines.install()
    if options.lifeline is not None:
        _watch_lifeline(options.lifeline, grace_seconds=options.grace_seconds)
    try:
        return _work(options.queue, name=options.name, entry=options.entry, filters=options.filters)
    except CallbacksError as exc:
        log.error("worker_misconfigured", queue=options.queue, error=exc)
        return EXIT_CONFIGURATION
    except LifespanFailed as exc:
        # No event was called. The supervisor restarts this process, after a longer time each time.
        log.error("handler_lifespan_failed", handler=exc.handler, cause=exc.cause, error=exc.error)
        return EXIT_FAILURE
    except redis.RedisError as exc:
        # The supervisor requeues this process's job and restarts it.
        redis_availability.failed(exc, queue=options.queue)
        return EXIT_FAILURE


def _work(queue: str, *, name: str, entry: str | None, filters: str | None) -> int:
    loaded = settings.load(process="expand" if queue == queues.EXPAND else "deliver", needs=("REDIS_URL",))
    library_parts.check("redis", "rq")
    sealed_data.use(loaded.seal_keys)
    # Before the handlers, which get it from OpenTelemetry's own functions.
    tracer = tracing.start("callbacks.expand" if queue == queues.EXPAND else "callbacks.deliver")
    wanted: Sequence[Filters] = ()
    handler: Handler | None = None
    if queue == queues.EXPAND:
        wanted = _load_filters(loaded.handlers, given=filters)
    else:
        handler = _load_handler(queue, loaded.handlers if entry is None else [entry])
    connection = connections.connect(loaded.redis_url)
    journal = JournalFolder.from_run_dir(loaded.run_dir).open(name)
    background = Background()
    worker = QueueWorker(queue, name=name, connection=connection, journal=journal, read_failed_job=FailedJob)
    caller: Caller | None = None
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, loaded.redis_url, background=background)
    if handler is None:
        expander = Expander(
            connection=connection,
            handlers=wanted,
            dedupe_seconds=loaded.dedupe_seconds,
            is_stopping=lambda: worker.stopping,
            metrics=metrics,
            spans=None if tracer is None else ExpandSpans(tracer),
            activity=ExpandActivity(connection, [handler.name for handler in wanted])
            if activity.is_watched()
            else None,
        )
        jobs.prepare(expander=expander)
    else:
        spans = None if tracer is None else CallSpans(tracer, handler, queue=queue)
        # Without its lifespan the handler lacks what that opened, so the worker stops and is restarted with a new one.
        caller = Caller(
            handler,
            spans=spans,
            on_lifespan_end=lambda: worker.request_stop(signal.SIGTERM, None),
            metrics=metrics,
        )
        jobs.prepare(
            deliverer=Deliverer(
                connection=connection,
                handler=handler,
                caller=caller,
                journal=journal,
                is_stopping=lambda: worker.stopping,
                log_bytes=loaded.delivery_log_bytes,
                metrics=metrics,
                spans=spans,
                activity=DeliveryActivity(ActivityPublisher(connection), handler) if activity.is_watched() else None,
            )
        )
    # RQ sets the same when it starts. This is for a stop while a lifespan opens, which is then closed properly.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, worker.request_stop)
    metrics_push.start()
    try:
        if caller is not None:
            caller.open()
        if activity.is_watched():
            ActivityPublisher(connection).publish([WorkerReady(queue)])
        with gc_tuning.infrequent_collection():
            worker.work(logging_level="WARNING")
    finally:
        if caller is not None:
            caller.close()
        journal.close()
        metrics_push.close()
        if tracer is not None:
            tracer.close()
    return 0 if worker.stopping else EXIT_FAILURE


def _load_filters(entries: Sequence[str], *, given: str | None) -> Sequence[Filters]:
    """Return which events the handlers want; with `given`, this process does not import the handlers' modules."""
    if given is not None:
        return msgspec.json.decode(given, type=list[Filters])
    loaded = registry.load_each(entries, with_settings=False)
    for problem in loaded.problems.values():
        raise problem
    return [from_handler(handler) for handlers in loaded.handlers.values() for handler in handlers]


def _load_handler(queue: str, entries: Sequence[str]) -> Handler:
    """Return the queue's handler, with its settings read; errors of other handlers do not matter."""
    loaded = registry.load_each(entries, with_settings=False)
    for entry, handlers in loaded.handlers.items():
        for handler in handlers:
            if queues.delivery_queue(handler.name) == queue:
                if handler.location.startswith("workers.handlers.forward."):
                    library_parts.check("httpcore")
                registry.read_settings(handler, entry=entry)
                return handler
    for problem in loaded.problems.values():
        raise problem
    raise ConfigurationError([f"CALLBACKS_HANDLERS: names no handler for the queue {queue}"])


def _watch_lifeline(lifeline: int, *, grace_seconds: float) -> None:
    """Stop as on SIGTERM when the other end of the pipe is closed, because the supervisor has died.

    No supervisor is left that would kill this process after `grace_seconds`, so it then ends itself.
    """

    def wait() -> None:
        try:
            os.read(lifeline, 1)
        finally:
            # Even after an error: without the pipe this process would outlive its supervisor.
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_seconds)
            os._exit(EXIT_FAILURE)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
