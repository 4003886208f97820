"""Where a handler's answer becomes HTTP: methods, faults, and bodies that were refused unread.

Starlette's router calls these directly. Its two middlewares are left out: they make a Request for each call and let
an unexpected exception end as 500; here it is 503, which tells the gateway to come again (I7).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.types import Receive, Scope, Send

from ingest import body, log, problems
from ingest.answers import Answer
from ingest.body import ClientDisconnected
from ingest.problems import Refused

RequestHandler: TypeAlias = Callable[[Scope, Receive], Awaitable[Answer]]


class Endpoint:
    """An ASGI application that answers every request with what `handler` gives, whatever happens.

    `name` stands in the log. Without `methods` the handler takes every method. `answered` hears the status of each
    answer and the seconds from the request to it.
    """

    def __init__(
        self,
        name: str,
        handler: RequestHandler,
        *,
        methods: tuple[str, ...] = (),
        limited_log: log.RateLimitedLog,
        on_answer: Callable[[int, float], None] | None = None,
    ) -> None:
        self._name = name
        self._handler = handler
        self._methods = methods
        self._limited_log = limited_log
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":  # a websocket: closed before it was accepted, which servers tell as 403
            await send({"type": "websocket.close"})
            return
        began_seconds = time.perf_counter()
        try:
            if self._methods and scope["method"] not in self._methods:
                answer = problems.method_not_allowed(scope["method"], self._methods)
            else:
                answer = await self._handler(scope, receive)
        except Refused as exc:
            answer = exc.answer
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            # The server's time for draining is over. What is being committed may still be kept, but nobody knows yet.
            answer = problems.fault()
        except Exception as exc:  # noqa: BLE001 # the declared boundary: no fault of ours becomes a 500
            log.unexpected_error(self._name, exc)
            answer = problems.fault()
        if self._on_answer is not None:
            self._on_answer(answer.status, time.perf_counter() - began_seconds)
        if answer.name:
            self._limited_log.warning(f"action=refused status={answer.status} problem={answer.name}", answer.about)
        try:
            if answer.unread:
                await _send_before_body(answer, scope, receive, send)
            else:
                await answer.send(scope, send)
        except (RuntimeError, OSError, asyncio.CancelledError) as exc:
            # A transport that was closed meanwhile, or the end of the time for draining: there is nobody to answer.
            self._limited_log.warning("action=response_not_sent", f"status={answer.status} why={type(exc).__name__}")


async def _send_before_body(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer at once, read the rest of the body into nothing, and only then end the connection."""
    await send(answer.start)
    await send({**answer.body, "more_body": True})
    # Who asked for "100 Continue" (RFC 9110, section 10.1.1) has our final answer instead, and sends no body.
    if not any(name == b"expect" for name, _ in scope["headers"]):
        await body.discard(receive)
    await send({"type": "http.response.body", "body": b""})
