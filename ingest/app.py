"""The web process, assembled: its routes, and what is started and stopped in which order.

`create_app` is a factory: `uvicorn --factory ingest.app:create_app` serves it, and `callbacks web` does so with the
right options. Nothing here, or imported from here, knows the workers (I6).
"""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.types import Receive, Scope

from ingest import answers, log, spans
from ingest.answers import COUNT_REFUSAL, Answer
from ingest.body import InFlight
from ingest.callbacks import CallbackReceiver
from ingest.durability_gate import DurabilityGate
from ingest.endpoint import Endpoint
from ingest.health import Health
from ingest.metrics import AnswerMetrics, MeasuredStore
from ingest.process_state import read_state
from ingest.prometheus.snapshots import SnapshotSender
from ingest.raw_path_route import RawPathRoute
from ingest.redis_store import RedisStore
from ingest.shutdown import cancel, run_step
from ingest.sources import AddressRules, Tokens
from ingest.spool.folder import SpoolFolder
from ingest.spool.store import FallbackStore
from shared import gc_tuning, logs, sealed_data, tracing, uncaught
from shared import settings as configuration
from shared.background import Background
from shared.connections import connect_async
from shared.metrics import Metrics
from shared.metrics_push import MetricsPush
from shared.schema import Kind
from shared.settings import Settings

# The bodies that are being read or wait for their commit, together. A body is in memory about three times (as bytes, as
# text, and inside its job), so the process may hold three times this. At least four of the largest bodies fit.
IN_FLIGHT_BYTES: Final = 64 << 20
# A check of Redis is a few small commands; a commit may have to wait for a disk.
_CHECK_TIMEOUT_SECONDS: Final = 2.0
# An available Redis answers within milliseconds, so the first request finds the gate open.
_FIRST_CHECK_SECONDS: Final = 1.0
# Requests wait for the group commit, so it is restarted sooner than other loops.
_COMMIT_PAUSE_SECONDS: Final = 1.0


def create_app(settings: Settings | None = None, *, snapshots_to: socket.socket | None = None) -> Starlette:
    """Return the application for `settings` (None: from the environment). Raise ConfigurationError.

    `snapshots_to` is where it sends what it counts, for a /metrics of its own (`ingest.prometheus`).
    """
    if settings is None:
        settings = configuration.load(process="web", needs=("REDIS_URL", "CALLBACKS_TOKENS"))
    gate = DurabilityGate(
        connect_async(settings.redis_url, timeout_seconds=_CHECK_TIMEOUT_SECONDS), settings.durability
    )
    background = Background()
    store = _make_store(settings, gate, background)
    health = Health(gate, store.report, background)
    metrics = Metrics()
    answer_metrics = AnswerMetrics(metrics)
    state = functools.partial(read_state, store.report, gate, background, answer_metrics)
    metrics_push = MetricsPush(metrics, settings.redis_url, state=state, background=background)
    sender = SnapshotSender(snapshots_to, metrics, state, background=background)
    # If traces are not asked for, there is no part of them anywhere: they cost nothing.
    tracer = tracing.start("callbacks.web")
    commit = spans.make_commit(MeasuredStore(store, metrics), tracer)
    addresses = AddressRules(allowed=settings.allowed_ips, trusted=settings.trusted_proxies)
    tokens = Tokens(settings.tokens)
    in_flight = InFlight(max(IN_FLIGHT_BYTES, 4 * settings.max_body_bytes))

    def callbacks(route: str, kind: Kind | None) -> RawPathRoute:
        receiver = CallbackReceiver(
            kind,
            addresses=addresses,
            tokens=tokens,
            commit=commit,
            in_flight=in_flight,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_seconds=settings.body_timeout_seconds,
        )
        handle = spans.trace_posts(receiver.handle, tracer, route=route, addresses=addresses)
        return RawPathRoute(route, Endpoint("callbacks", handle, methods=("POST",), on_answer=answer_metrics.count))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        with _tokens_masked(settings), gc_tuning.infrequent_collection():
            _warn_of_durability(settings)
            uncaught.watch(asyncio.get_running_loop())
            checking = background.start_task("durability", gate.run)
            await store.open()
            committing = background.start_task(
                "group_commit",
                commit.run,
                max_pause_seconds=_COMMIT_PAUSE_SECONDS,
                on_failure=commit.fail_pending,
            )
            metrics_push.start()
            sender.start()
            await gate.wait_for_first_check(_FIRST_CHECK_SECONDS)
            log.logger.info("started", durability=settings.durability, tokens=len(settings.tokens))
            try:
                yield {COUNT_REFUSAL: answer_metrics.count}
            finally:
                # The server has answered every request by now, or given it up. What still waits is committed.
                background.stop_restarting()
                commit.close()
                await run_step("the group commit", committing)
                await run_step("the store", store.close())
                await run_step("the durability gate", cancel(checking))
                await run_step("the durability gate", gate.close())
                await run_step("the metrics push", asyncio.to_thread(metrics_push.close))
                await run_step("the metrics snapshot", asyncio.to_thread(sender.close))
                if tracer is not None:
                    await run_step("the traces", asyncio.to_thread(tracer.close))
                log.logger.info("stopped")

    app = Starlette(
        routes=[
            callbacks("/callbacks/{token}/status", "status"),
            callbacks("/callbacks/{token}/reply", "reply"),
            callbacks("/callbacks/{token}", None),
            RawPathRoute("/livez", Endpoint("livez", health.livez, methods=("GET", "HEAD"))),
            RawPathRoute("/readyz", Endpoint("readyz", health.readyz, methods=("GET", "HEAD"))),
        ],
        lifespan=lifespan,
    )
    app.router.default = Endpoint("unknown path", _not_found)
    # To the gateway a redirect is a failure, and its Location would repeat the token.
    app.router.redirect_slashes = False
    # No middleware: see ingest/endpoint.py.
    app.middleware_stack = app.router.app
    return app


def _make_store(settings: Settings, gate: DurabilityGate, background: Background) -> FallbackStore:
    sealed_data.use(settings.seal_keys)
    spool_dir = Path(settings.spool_dir) if settings.spool_dir else None
    return FallbackStore(
        RedisStore(connect_async(settings.redis_url, timeout_seconds=None), gate),
        RedisStore(connect_async(settings.redis_url, timeout_seconds=None), gate),
        gate,
        SpoolFolder(spool_dir, limit_bytes=settings.spool_max_bytes) if spool_dir else None,
        background=background,
    )


async def _not_found(_scope: Scope, _receive: Receive) -> Answer:
    return answers.not_found()


def _warn_of_durability(settings: Settings) -> None:
    if settings.durability == "memory":
        log.logger.warning("durability_memory", warning="a 200 does not survive a crash of Redis")
    if settings.durability == "managed":
        log.logger.warning("durability_managed", warning="a 200 is as durable as the provider of Redis promises")


@contextlib.contextmanager
def _tokens_masked(settings: Settings) -> Iterator[None]:
    remove = logs.mask_tokens(token.secret for token in settings.tokens)
    try:
        yield
    finally:
        remove()
