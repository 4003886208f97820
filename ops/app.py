"""The operators' page: the audit's figures as a page and as JSON, and /metrics. Reads Redis only, changes nothing.

It shows numbers and names of handlers, never an event, a token or an address, and is meant for the loopback address.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import escape
from typing import Any, TypeAlias

import msgspec
import redis
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared import audit, connections
from shared.settings import Settings

Rows: TypeAlias = list[tuple[str, int]]

_STYLE = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}"
    "body{max-width:40rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:0 0 2rem}td,th{padding:.3rem .6rem;border-bottom:1px solid #8886;"
    "text-align:left}td{text-align:right;font-variant-numeric:tabular-nums}.well{color:#1a7f37}.bad{color:#cf222e}"
    "@media (prefers-color-scheme:dark){.well{color:#3fb950}.bad{color:#ff7b72}}"
)
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}


def create_app(settings: Settings) -> Starlette:
    """Assemble the page for the Redis that `settings` names."""
    client = connections.connect(settings.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        client.close()

    return Starlette(
        routes=[
            Route("/", _answering(client, _page)),
            Route("/audit", _answering(client, _json)),
            Route("/metrics", _metrics(client, settings)),
            Route("/livez", _alive),
            Route("/readyz", _ready(client)),
        ],
        lifespan=lifespan,
    )


def _answering(client: redis.Redis, answer: Callable[[audit.Audit], Response]) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        try:
            sums = await run_in_threadpool(audit.take, client)
        except redis.RedisError as exc:
            return _unavailable(exc)
        return answer(sums)

    return endpoint


def _metrics(client: redis.Redis, settings: Settings) -> Callable[[Request], Any]:
    try:
        # An extra: the page is there without it.
        from ops.metrics import CONTENT_TYPE, Metrics  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "prometheus_client":
            raise

        async def missing(_: Request) -> Response:
            return PlainTextResponse("prometheus-client is not installed: pip install 'callbacks[ops]'\n", 501)

        return missing
    metrics = Metrics(client, settings.durability)

    async def endpoint(_: Request) -> Response:
        text = await run_in_threadpool(metrics.exposition)
        return Response(text, headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    return endpoint


async def _alive(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _ready(client: redis.Redis) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        try:
            await run_in_threadpool(client.ping)
        except redis.RedisError as exc:
            return _unavailable(exc)
        return JSONResponse({"status": "ok"})

    return endpoint


def _unavailable(exc: redis.RedisError) -> Response:
    return JSONResponse({"status": "unavailable", "checks": {"redis": type(exc).__name__}}, status_code=503)


def _json(sums: audit.Audit) -> Response:
    return Response(msgspec.json.encode(sums.as_json()), media_type="application/json", headers=_HEADERS)


def _page(sums: audit.Audit) -> Response:
    if sums.balances:
        verdict = '<p class="well">It balances: everything received is somewhere, once.</p>'
    elif sums.moving:
        verdict = "<p>Events are moving too fast to be added up exactly.</p>"
    else:
        verdict = '<p class="bad">It does not balance: something is lost, or there twice.</p>'
    arrivals: Rows = [
        ("received", sums.received),
        ("new: events", sums.unique),
        ("duplicate", sums.duplicate),
        ("quarantined", sums.quarantined),
        ("dropped", sums.dropped),
        ("waiting to be expanded", sums.waiting),
        ("unaccounted for", sums.missing),
    ]
    tables = [_table("Reports and replies", arrivals)]
    for handler in sums.handlers:
        rows: Rows = [
            ("queued", handler.queued),
            ("delivered", handler.delivered),
            ("dead letters", handler.dead),
            ("dropped", handler.dropped),
            ("waiting", handler.waiting),
            ("not wanted", handler.unwanted),
            ("unaccounted for", handler.missing),
        ]
        tables.append(_table(f"Handler {handler.handler}", rows))
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="refresh" content="5"><title>Callbacks</title><style>{_STYLE}</style><h1>Callbacks</h1>'
    )
    return HTMLResponse(head + verdict + "".join(tables), headers=_HEADERS)


def _table(caption: str, rows: Rows) -> str:
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{number:,}</td></tr>' for name, number in rows)
    return f"<h2>{escape(caption)}</h2><table>{lines}</table>"
