"""The public edge, assembled: what is routed where, and what is started and stopped in which order.

`create_app` is a factory: `uvicorn --factory ingest.app:create_app` serves it, and `callbacks web` does with the
options that it is meant to have. Nothing here, or imported from here, knows the workers (I6).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest import log, problems
from ingest.answers import Answer
from ingest.body import InFlight
from ingest.callbacks import CallbackReceiver
from ingest.endpoint import Endpoint
from ingest.health import DurabilityGate, Health
from ingest.metrics import AnswerMetrics, MeasuredStore
from ingest.redis_store import RedisStore
from ingest.shutdown import finish, stop
from ingest.sources import AddressRules, Tokens
from ingest.spool.folder import SpoolFolder
from ingest.spool.store import FallbackStore
from ingest.trace import setup
from shared import gc_tuning, uncaught, wire
from shared import settings as configuration
from shared.background import Background
from shared.connections import connect_async
from shared.metrics import Metrics
from shared.metrics_push import MetricsPush
from shared.settings import Settings

# Bodies being read and bodies waiting for their commit, together; a body is held about three times over (as bytes,
# as text, and inside its job), so the process may reach three times this. At least four of the largest bodies fit.
IN_FLIGHT_BYTES: Final = 64 << 20
# A look at Redis is a few small questions; a commit may have to wait for a disk.
_CHECK_TIMEOUT_SECONDS: Final = 2.0
# A Redis that is there answers within milliseconds, so that the first request finds it looked at.
_FIRST_CHECK_SECONDS: Final = 1.0
# Requests wait for the group commit, so it begins again sooner than others do after a fault.
_COMMIT_PAUSE_SECONDS: Final = 1.0


def create_app(settings: Settings | None = None) -> Starlette:
    """Make the application from `settings` (None: from the environment). Raises ConfigurationError."""
    if settings is None:
        settings = configuration.load(needs=("REDIS_URL", "CALLBACKS_TOKENS"))
    gate = DurabilityGate(
        connect_async(settings.redis_url, timeout_seconds=_CHECK_TIMEOUT_SECONDS), settings.durability
    )
    spool_dir = Path(settings.spool_dir) if settings.spool_dir else None
    spans = setup.start()
    background = Background()
    store = FallbackStore(
        spans.redis(RedisStore(connect_async(settings.redis_url, timeout_seconds=None), gate)),
        spans.drain(RedisStore(connect_async(settings.redis_url, timeout_seconds=None), gate)),
        gate,
        SpoolFolder(spool_dir, limit_bytes=settings.spool_max_bytes) if spool_dir else None,
        background=background,
    )
    health = Health(gate, store.report, background)
    metrics = Metrics()
    answers = AnswerMetrics(metrics)
    metrics_push = MetricsPush(metrics, settings.redis_url, state=store.report.metrics, background=background)
    commit = spans.commit(MeasuredStore(store, metrics))
    limited_log = log.RateLimitedLog()
    addresses = AddressRules(allowed=settings.allowed_ips, trusted=settings.trusted_proxies)
    tokens = Tokens(settings.tokens)
    in_flight = InFlight(max(IN_FLIGHT_BYTES, 4 * settings.max_body_bytes))

    def callbacks(route: str, kind: wire.Kind | None) -> Route:
        receiver = CallbackReceiver(
            kind,
            addresses=addresses,
            tokens=tokens,
            commit=commit,
            in_flight=in_flight,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_seconds=settings.body_timeout_seconds,
            limited_log=limited_log,
        )
        handle = spans.post(receiver.handle, route=route, addresses=addresses)
        return Route(
            route, Endpoint("callbacks", handle, methods=("POST",), limited_log=limited_log, on_answer=answers.count)
        )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with _tokens_masked(settings), gc_tuning.infrequent_collection():
            if settings.durability == "memory":
                log.logger.warning("action=durability_memory a 200 does not survive a crash of Redis")
            uncaught.watch(asyncio.get_running_loop())
            watching = background.start_task("durability", gate.run)
            await store.open()
            committing = background.start_task(
                "group_commit",
                commit.run,
                max_pause_seconds=_COMMIT_PAUSE_SECONDS,
                on_failure=commit.fail_pending,
            )
            metrics_push.start()
            await gate.wait_for_first_check(_FIRST_CHECK_SECONDS)
            log.logger.info("action=started level=%s tokens=%d", settings.durability, len(settings.tokens))
            try:
                yield
            finally:
                # The server has answered everyone by now, or given up on them: what still waits is committed.
                background.stop_restarting()
                commit.close()
                await finish("the group commit", committing)
                await finish("the store", store.close())
                await finish("the durability watch", stop(watching))
                await finish("the durability watch", gate.close())
                await finish("the metrics push", asyncio.to_thread(metrics_push.close))
                await finish("the traces", asyncio.to_thread(spans.close))
                log.logger.info("action=stopped")

    app = Starlette(
        routes=[
            callbacks("/callbacks/{token}/status", "status"),
            callbacks("/callbacks/{token}/reply", "reply"),
            callbacks("/callbacks/{token}", None),
            Route("/livez", Endpoint("livez", health.livez, methods=("GET", "HEAD"), limited_log=limited_log)),
            Route("/readyz", Endpoint("readyz", health.readyz, methods=("GET", "HEAD"), limited_log=limited_log)),
        ],
        lifespan=lifespan,
    )
    app.router.default = Endpoint("unknown path", _not_found, limited_log=limited_log)
    # A redirect is a failure to the gateway, and would repeat the token in its Location.
    app.router.redirect_slashes = False
    # No middleware: see ingest/endpoint.py.
    app.middleware_stack = _by_raw_path(app.router)
    return app


def _by_raw_path(router: ASGIApp) -> ASGIApp:
    """Route by the path as it was sent, so that each address has one spelling: the one that the gateway was given.

    Decoded first, `/status%0a` and `%2Fstatus` would pass for `/status`. The token's own segment may be encoded.
    """

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await router(scope, receive, send)

    return route


async def _not_found(_scope: Scope, _receive: Receive) -> Answer:
    return problems.not_found()


@contextlib.contextmanager
def _tokens_masked(settings: Settings) -> Iterator[None]:
    unmask = log.install_filters(token.secret for token in settings.tokens)
    try:
        yield
    finally:
        unmask()
