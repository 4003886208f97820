"""A callback's trace in the web process: the spans POST and commit, and where it waited in the spool, drain.

They are wrapped around the handler, the group commit and the stores when the application is assembled, and only if
OpenTelemetry was asked for; the wrapped parts know nothing of them. The callback carries the commit's span along, as
the parent of its later spans.

A `traceparent` is believed from the same proxies as X-Forwarded-For (CALLBACKS_TRUSTED_PROXIES), and is then the POST's
parent. From anybody else it is ignored, as it decides what is recorded.
"""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from starlette.types import Receive, Scope

from ingest.answers import Answer, Refused
from ingest.endpoint import RequestHandler
from ingest.group_commit import BatchEntry, GroupCommit, PendingEntry, Store
from ingest.sources import AddressRules
from shared import queues, tracing
from shared.batches import Accepted, TracedAccepted, counted_kind
from shared.errors import StoreUnavailable

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from shared.tracer import Tracer

_SERVER_ERROR: Final = 500
# A traceparent of version 00 has 55 characters, and of later ones hardly many more (W3C Trace Context, section 3.2).
_MAX_PARENT_BYTES: Final = 128

# The recorded POST that this task answers.
_posting: ContextVar["Span | None"] = ContextVar("posting", default=None)


class TracedPost:
    """Handles a request as `handler` does, in a span. `route` is the path with a placeholder for the token."""

    def __init__(self, handler: RequestHandler, *, route: str, tracer: "Tracer", addresses: AddressRules) -> None:
        self._handler = handler
        self._name = f"POST {route}"
        self._attributes = {"http.request.method": "POST", "http.route": route}
        self._tracer = tracer
        self._addresses = addresses

    async def handle(self, scope: Scope, receive: Receive) -> Answer:
        """Return the answer to one request. Raises what `handler` raises."""
        span = self._tracer.start_span(self._name, "server", parent=self._parent(scope), attributes=self._attributes)
        if not span.is_recording():
            return await self._handler(scope, receive)
        span.set_attribute("url.scheme", scope["scheme"])
        posting = _posting.set(span)
        status = 0
        try:
            answer = await self._handler(scope, receive)
            status = answer.status
        except Refused as exc:
            status = exc.answer.status
            raise
        finally:
            _posting.reset(posting)
            self._end(span, status)
        return answer

    def _parent(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"traceparent":
                client = scope["client"]
                is_believed = len(value) <= _MAX_PARENT_BYTES and self._addresses.trusts(client[0] if client else None)
                return value.decode("latin-1") if is_believed else ""
        return ""

    def _end(self, span: "Span", status: int) -> None:
        if status:
            span.set_attribute("http.response.status_code", status)
        if not status or status >= _SERVER_ERROR:
            # Without a status there was no answer here: the client disconnected, or an unexpected error becomes a 503.
            self._tracer.mark_failed(span, str(status) if status else "unanswered")
        span.end()


class TracedCommit(GroupCommit):
    """A group commit that records how long each callback took, with how many others, and where it was stored.

    `redis` is the store inside `store` that writes to Redis. What `store` took and `redis` did not is in the spool.
    """

    def __init__(self, store: Store, *, redis: "TrackedStore", tracer: "Tracer") -> None:
        super().__init__(store)
        self._redis = redis
        self._tracer = tracer
        self._open: dict[int, Span] = {}
        self._commits = 0

    async def accept(self, entry: BatchEntry, size_bytes: int) -> None:
        """Return when `entry` is durable. Raises StoreUnavailable."""
        posting = _posting.get()
        if posting is None:
            await super().accept(entry, size_bytes)
            return
        about: dict[str, str | int] = {
            "callbacks.source": entry.source,
            "callbacks.kind": counted_kind(entry.kind),
            "callbacks.records": entry.records,
        }
        posting.set_attributes(about)
        span = self._tracer.start_span(
            "commit",
            "producer",
            parent=self._tracer.traceparent(posting),
            attributes=tracing.messaging_attributes(queues.EXPAND, "commit", kind="send"),
        )
        if isinstance(entry, Accepted):
            trace = self._tracer.traceparent(span)
            entry = TracedAccepted(entry.kind, entry.source, entry.received_ms, entry.records, entry.body, trace)
        else:
            span.set_attribute("callbacks.outcome", "quarantined")
        self._open[id(entry)] = span
        try:
            await super().accept(entry, size_bytes)
        except StoreUnavailable as exc:
            self._tracer.mark_failed(span, type(exc).__name__)
            raise
        finally:
            del self._open[id(entry)]
            span.end()

    async def _commit(self, batch: Sequence[PendingEntry]) -> None:
        opened = [(waiting, span) for waiting in batch if (span := self._open.get(id(waiting.entry))) is not None]
        for number, (_, span) in enumerate(opened):
            span.set_attribute("messaging.batch.message_count", len(batch))
            if number:
                self._tracer.link(span, opened[0][1])
        self._redis.wrote = False
        self._commits += 1
        this = self._commits
        await super()._commit(batch)
        if self._commits != this:
            return  # after an error each was committed alone, and its span set there
        # The waiting requests continue only after this.
        for waiting, span in opened:
            if not waiting.done.cancelled() and waiting.done.exception() is None:
                span.set_attribute("callbacks.destination", "redis" if self._redis.wrote else "spool")


class TrackedStore:
    """Writes to `store`, and remembers that it took a batch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.wrote = False

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make `batch` durable. Raises StoreUnavailable."""
        await self._store.write(batch)
        self.wrote = True

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


class TracedDrain:
    """Writes to `store` what waited in the spool, and records a span for each callback."""

    def __init__(self, store: Store, *, tracer: "Tracer") -> None:
        self._store = store
        self._tracer = tracer

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make `batch` durable. Raises StoreUnavailable, and then records nothing."""
        began_ns = time.time_ns()
        await self._store.write(batch)
        first: Span | None = None
        for entry in batch:
            if not isinstance(entry, TracedAccepted):
                continue
            span = self._tracer.start_span(
                "drain",
                "producer",
                parent=entry.trace,
                start_ns=began_ns,
                attributes=tracing.messaging_attributes(queues.EXPAND, "drain", kind="send")
                | {"messaging.batch.message_count": len(batch)},
            )
            if first is None:
                first = span
            else:
                self._tracer.link(span, first)
            span.end()

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()
