"""The operators' side, assembled: the page behind its guard; /metrics, the audit as JSON, and health beside it.

The page shows events to who may see it; the rest shows numbers and names of handlers, never an event or a token.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import redis
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from callbacks.ops.access.sessions import Sessions, visit
from callbacks.ops.access.signed_out import SignedOut
from callbacks.ops.access.visitors import Visitors
from callbacks.ops.figures.auditing import MOST_JOBS
from callbacks.ops.figures.together import Together
from callbacks.ops.guard import Guard
from callbacks.ops.html import assets
from callbacks.ops.html.rendering import notice, page
from callbacks.ops.pages import actions, dead_letters, front, handlers, live_page, messages, quarantine
from callbacks.ops.pages.hands import Hands
from callbacks.ops.pages.live_hub import Hub
from callbacks.ops.pages.signing_in import SigningIn
from callbacks.ops.pages.streams import Streams
from callbacks.ops.pages.watch import Watch
from shared import audit, connections, uncaught
from shared.background import Background
from shared.primary import check_role
from shared.settings import Settings


def create_app(settings: Settings) -> Starlette:
    """Assemble the page for the Redis that `settings` names."""
    client = connections.connect(settings.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    sessions, signed_out = Sessions(settings.ops_password), SignedOut(client)
    guarding: dict[str, Any] = {
        "sessions": sessions,
        "visitors": Visitors(settings.trusted_proxies),
        "signed_out": signed_out,
    }

    async def may_go_on(request: Request) -> bool:
        at = visit(request)
        return at is not None and sessions.seconds_left(at.session) > 0 and not await signed_out.holds(at.session)

    background = Background()
    streams, hub, hands = Streams(may_go_on), Hub(settings.redis_url, background), Hands(client)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        uncaught.watch(asyncio.get_running_loop())
        yield
        await hub.close()
        await run_in_threadpool(hands.close)
        client.close()

    app = Starlette(
        routes=[
            *front.routes(Watch(client, settings), streams),
            *live_page.routes(hub, streams),
            *SigningIn(**guarding).routes(),
            *messages.routes(client, settings),
            *dead_letters.routes(client, settings, hands=hands),
            *handlers.routes(client, settings),
            *quarantine.routes(client, settings, hands=hands),
            *actions.routes(client, settings, hands=hands),
            Route("/audit", _audit(client)),
            Route("/metrics", _metrics(client, settings)),
            Route("/livez", _alive),
            Route("/readyz", _ready(client, background)),
            Route("/static/{name}", assets.serve),
        ],
        middleware=[Middleware(Guard, **guarding)],
        exception_handlers={redis.RedisError: _redis_away, HTTPException: _no_page},
        lifespan=lifespan,
    )
    # Whoever serves this ends them before it waits for connections to close.
    app.state.streams = streams
    return app


def _audit(client: redis.Redis) -> Callable[[Request], Any]:
    def look() -> audit.Audit | audit.TooManyJobs:
        try:
            return audit.take(client, most_jobs=MOST_JOBS)
        except audit.TooManyJobs as exc:
            return exc

    taken = Together(look)

    async def endpoint(_: Request) -> Response:
        try:
            sums = await taken.get()
        except redis.RedisError as exc:
            return _unavailable("redis", type(exc).__name__)
        if isinstance(sums, audit.TooManyJobs):
            return _unavailable("audit", str(sums))
        return Response(msgspec.json.encode(sums.as_json()), media_type="application/json")

    return endpoint


def _metrics(client: redis.Redis, settings: Settings) -> Callable[[Request], Any]:
    try:
        # An extra: the page is there without it.
        from callbacks.ops.metrics import CONTENT_TYPE, Metrics  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "prometheus_client":
            raise

        async def missing(_: Request) -> Response:
            return PlainTextResponse("prometheus-client is not installed: pip install 'callbacks[ops]'\n", 501)

        return missing
    told = Together(Metrics(client, settings.durability).exposition)

    async def endpoint(_: Request) -> Response:
        text = await told.get()
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return endpoint


async def _alive(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _ready(client: redis.Redis, background: Background) -> Callable[[Request], Any]:
    # A replica answers too, and may be behind for good.
    answered = Together(functools.partial(check_role, client))

    async def endpoint(_: Request) -> Response:
        try:
            await answered.get()
        except redis.RedisError as exc:
            return _unavailable("redis", type(exc).__name__)
        failing = background.failing()
        if failing:
            return JSONResponse({"status": "unavailable", "checks": failing}, status_code=503)
        return JSONResponse({"status": "ok"})

    return endpoint


def _unavailable(check: str, why: str) -> Response:
    return JSONResponse({"status": "unavailable", "checks": {check: why}}, status_code=503)


async def _redis_away(request: Request, exc: Exception) -> Response:
    if isinstance(exc, redis.OutOfMemoryError):
        return notice(request, 503, "Redis is full, so nothing was done", _FULL)
    return page(request, "redis_away.html", status_code=503, headers={"retry-after": "5"}, error=type(exc).__name__)


_FULL: Final = (
    "It takes nothing new, not even the note of who did what that each act here begins with. Dropping makes room, and "
    "works without it on the command line: callbacks dead drop, callbacks quarantine drop."
)


async def _no_page(request: Request, exc: Exception) -> Response:
    status_code = exc.status_code if isinstance(exc, HTTPException) else 500
    headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else {}
    title = "There is no such page" if status_code == 404 else f"That was not understood ({status_code})"  # noqa: PLR2004
    answer = notice(request, status_code, title, "The address may be old, or mistyped.")
    answer.headers.update(headers)
    return answer
