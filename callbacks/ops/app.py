"""The operators' service, assembled: the pages behind access control; /metrics, /audit and health without it.

The pages show events to signed-in users; the rest shows numbers and handler names, never an event or a token.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import msgspec
import redis
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from callbacks.ops.access import sign_in_settings
from callbacks.ops.access.proxy_users import ProxyUsers
from callbacks.ops.access.request_origin import RequestOrigin
from callbacks.ops.access.revoked_sessions import RevokedSessions
from callbacks.ops.access.sessions import SessionSigner, request_session
from callbacks.ops.access_middleware import AccessMiddleware
from callbacks.ops.api import all_operations
from callbacks.ops.api import service as api_service
from callbacks.ops.html import assets
from callbacks.ops.html.renderer import render_notice, render_page
from callbacks.ops.notices.service import NoticeService
from callbacks.ops.notices.targets import read_targets
from callbacks.ops.pages import actions, dead_letters, handlers, jobs, live, messages, now, quarantine, retries, runbook
from callbacks.ops.pages.bulk_actions import BulkActionRunner
from callbacks.ops.pages.event_streams import EventStreams
from callbacks.ops.pages.live_feed import LiveFeed
from callbacks.ops.pages.now_feed import NowFeed
from callbacks.ops.pages.sign_in import SignInPages
from callbacks.ops.prometheus import CONTENT_TYPE, CellsCollector, OwnCollector, ServiceCollector
from callbacks.ops.status.audit_cache import MAX_JOBS
from callbacks.ops.status.backlog_history import BacklogHistory
from callbacks.ops.status.overdue import OverdueCounter
from callbacks.ops.status.single_flight import SingleFlight
from shared import audit, cell_audits, connections, sealed_data, uncaught
from shared.background import Background
from shared.cell_audits import CellAudits
from shared.cells import Cell
from shared.errors import ConfigurationError
from shared.primary import check_role
from shared.settings import Settings
from workers.admin.number_views import NumberViews


def create_app(settings: Settings) -> Starlette:
    """Return the application for the Redis in `settings`.

    Raise ConfigurationError if a target of notices is wrong, or a setting of access lacks another one.
    """
    problems = list(sign_in_settings.find_problems(settings))
    if problems:
        raise ConfigurationError(problems)
    sealed_data.use(settings.seal_keys)
    client = connections.connect(settings.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    sessions = SessionSigner(settings.ops_password, settings.ops_read_password)
    origin, revoked = RequestOrigin(settings.trusted_proxies), RevokedSessions(client)

    async def is_session_valid(request: Request) -> bool:
        at = request_session(request)
        return at is not None and sessions.seconds_left(at.session) > 0 and not await revoked.is_revoked(at.session)

    number_views = NumberViews(client)
    background = Background()
    targets = read_targets(settings)
    backlog = BacklogHistory(client, background)
    overdue = OverdueCounter.if_used(settings, background)
    notices = NoticeService(settings, targets, background, overdue=overdue) if targets else None
    streams, live_feed, bulk_actions = (
        EventStreams(is_session_valid),
        LiveFeed(settings.redis_url, background),
        BulkActionRunner(client),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        uncaught.watch(asyncio.get_running_loop())
        for service in (backlog, overdue, notices):
            if service is not None:
                service.start()
        yield
        backlog.close()
        await live_feed.close()
        await run_in_threadpool(bulk_actions.close)
        for service in (overdue, notices):
            if service is not None:
                await run_in_threadpool(service.close)
        client.close()

    app = Starlette(
        routes=[
            *now.routes(NowFeed(client, settings, overdue, backlog), streams),
            *live.routes(live_feed, streams, number_views),
            *SignInPages(sessions=sessions, origin=origin, revoked=revoked).routes(),
            *messages.routes(client, settings, number_views),
            *jobs.routes(settings),
            *runbook.routes(),
            *retries.routes(client, bulk_actions=bulk_actions),
            *dead_letters.routes(client, settings, number_views, bulk_actions=bulk_actions),
            *handlers.routes(client, settings),
            *quarantine.routes(client, settings, number_views, bulk_actions=bulk_actions),
            *actions.routes(client, settings, bulk_actions=bulk_actions),
            *api_service.routes(settings, origin, all_operations.operations(client, settings, number_views, overdue)),
            Route("/audit", _cell_audits(settings.cells) if settings.cells else _audit(client)),
            Route("/metrics", _metrics(client, settings, overdue)),
            Route("/livez", _livez),
            Route("/readyz", _readyz(client, background)),
            Route("/static/{name}", assets.serve),
        ],
        middleware=[
            Middleware(
                AccessMiddleware,
                sessions=sessions,
                origin=origin,
                revoked=revoked,
                proxy_users=ProxyUsers(settings, origin),
                is_sign_in_required=sign_in_settings.is_sign_in_required(settings),
            )
        ],
        exception_handlers={redis.RedisError: _redis_error, HTTPException: _http_error},
        lifespan=lifespan,
    )
    # A redirect's Location would repeat the request's Host, which a stranger can choose, and say http behind TLS.
    app.router.redirect_slashes = False
    # The server closes them before it waits for connections to end.
    app.state.streams = streams
    return app


def _audit(client: redis.Redis) -> Callable[[Request], Any]:
    def take_audit() -> audit.Audit | audit.TooManyJobs:
        try:
            return audit.run(client, max_jobs=MAX_JOBS)
        except audit.TooManyJobs as exc:
            return exc

    audits = SingleFlight(take_audit)

    async def endpoint(_: Request) -> Response:
        try:
            sums = await audits.get()
        except redis.RedisError as exc:
            return _unavailable("redis", type(exc).__name__)
        if isinstance(sums, audit.TooManyJobs):
            return _unavailable("audit", str(sums))
        return Response(msgspec.json.encode(sums.as_json()), media_type="application/json")

    return endpoint


def _cell_audits(cells: Sequence[Cell]) -> Callable[[Request], Any]:
    audits = SingleFlight(cell_audits.open_reader(cells, max_jobs=MAX_JOBS).read)

    async def endpoint(_: Request) -> Response:
        sums = CellAudits(await audits.get())
        status_code = 503 if sums.unavailable else 200
        return Response(msgspec.json.encode(sums.as_json()), status_code, media_type="application/json")

    return endpoint


def _metrics(client: redis.Redis, settings: Settings, overdue: OverdueCounter | None) -> Callable[[Request], Any]:
    cells, level = settings.cells, settings.durability
    # Without auto_describe: nothing is read before a scrape.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CellsCollector(cells, level) if cells else ServiceCollector(client, level))
    registry.register(OwnCollector(settings.runbook_url, overdue))
    scrapes = SingleFlight(functools.partial(generate_latest, registry))

    async def endpoint(_: Request) -> Response:
        text = await scrapes.get()
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return endpoint


async def _livez(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _readyz(client: redis.Redis, background: Background) -> Callable[[Request], Any]:
    # A replica answers too, and may be permanently behind.
    role_checks = SingleFlight(functools.partial(check_role, client))

    async def endpoint(_: Request) -> Response:
        try:
            await role_checks.get()
        except redis.RedisError as exc:
            return _unavailable("redis", type(exc).__name__)
        failing = background.failing()
        if failing:
            return JSONResponse({"status": "unavailable", "checks": failing}, status_code=503)
        return JSONResponse({"status": "ok"})

    return endpoint


def _unavailable(check: str, why: str) -> Response:
    return JSONResponse({"status": "unavailable", "checks": {check: why}}, status_code=503)


async def _redis_error(request: Request, exc: Exception) -> Response:
    if isinstance(exc, redis.OutOfMemoryError):
        return render_notice(request, 503, "Redis is full, nothing was changed", _REDIS_FULL)
    return render_page(
        request, "redis_unavailable.html", status_code=503, headers={"retry-after": "5"}, error=type(exc).__name__
    )


_REDIS_FULL: Final = (
    "Redis accepts no new data, not even the entry in the action log that each action here starts with. Free memory on "
    "the command line, which needs no such entry: callbacks dead drop, callbacks quarantine drop."
)


async def _http_error(request: Request, exc: Exception) -> Response:
    status_code = exc.status_code if isinstance(exc, HTTPException) else 500
    headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else {}
    title = "Page not found" if status_code == 404 else f"Bad request ({status_code})"  # noqa: PLR2004
    text = exc.detail if isinstance(exc, HTTPException) and status_code == HTTPStatus.BAD_REQUEST else ""
    if text in ("", HTTPStatus(status_code).phrase):
        text = "The address may be outdated or mistyped."
    answer = render_notice(request, status_code, title, text)
    answer.headers.update(headers)
    return answer
