"""From a handler's answer to HTTP: methods, unexpected errors, and bodies that were refused unread.

Starlette's router calls these endpoints directly. Its two middlewares are left out: they make a Request for each call,
and an unexpected exception would end as 500. Here it is 503, which tells the gateway to send the callback again (I7).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.types import Receive, Scope, Send

from ingest import answers, body, log
from ingest.answers import Answer, Refused
from ingest.body import ClientDisconnected

RequestHandler: TypeAlias = Callable[[Scope, Receive], Awaitable[Answer]]


class Endpoint:
    """An ASGI application that answers every request with what `handler` returns, whatever happens.

    `name` is for the log. Without `methods` the handler takes every method. `on_answer` is called with each answer and
    the seconds that it took.
    """

    def __init__(
        self,
        name: str,
        handler: RequestHandler,
        *,
        methods: tuple[str, ...] = (),
        on_answer: Callable[[Answer, float], None] | None = None,
    ) -> None:
        self._name = name
        self._handler = handler
        self._methods = methods
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":  # a WebSocket: closing it before it is accepted makes a 403
            await send({"type": "websocket.close"})
            return
        began_seconds = time.perf_counter()
        try:
            if self._methods and scope["method"] not in self._methods:
                answer = answers.method_not_allowed(scope["method"], self._methods)
            else:
                answer = await self._handler(scope, receive)
        except Refused as exc:
            answer = exc.answer
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            # The server's time to drain is over. A commit under way may still succeed, but nobody knows yet.
            answer = answers.internal_error()
        except Exception as exc:  # noqa: BLE001 # the declared boundary: no error of ours becomes a 500
            log.unexpected_error(self._name, exc)
            answer = answers.internal_error()
        if self._on_answer is not None:
            self._on_answer(answer, time.perf_counter() - began_seconds)
        if answer.problem:
            log.refused(
                answer.status,
                answer.problem,
                sender=answer.sender,
                address=answer.address,
                fields=answer.log_fields,
            )
        try:
            if answer.body_unread:
                await _send_before_body(answer, scope, receive, send)
            else:
                await answer.send(scope, send)
        except (RuntimeError, OSError, asyncio.CancelledError) as exc:
            # The transport was closed meanwhile, or the time to drain is over: there is nobody to answer.
            log.limited.warning("response_not_sent", status=answer.status, why=type(exc).__name__)


async def _send_before_body(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer at once, discard the rest of the body, and only then end the connection."""
    await send(answer.start)
    await send({**answer.body, "more_body": True})
    # A client that asked for "100 Continue" (RFC 9110, section 10.1.1) gets this answer instead, and sends no body.
    if answer.body_begun or not any(name == b"expect" for name, _ in scope["headers"]):
        await (answer.keep_copy or body.discard)(receive)
    await send({"type": "http.response.body", "body": b""})
