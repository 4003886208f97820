"""A callback's trace in the web process: one span, of its POST, which says where the callback was stored.

It is wrapped around the handler and the group commit when the application is assembled, and only if OpenTelemetry was
asked for: both know nothing of it. The callback carries it along, as the parent of its later spans.

A `traceparent` is believed from the same proxies as X-Forwarded-For (CALLBACKS_TRUSTED_PROXIES), and is then the POST's
parent. From anybody else it is ignored, as it decides what is recorded.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from starlette.types import Receive, Scope

from ingest.answers import Answer, Refused
from ingest.endpoint import RequestHandler
from ingest.group_commit import BatchEntry, Commit, GroupCommit, Store
from ingest.sources import AddressRules
from shared.batches import Accepted, TracedAccepted, counted_kind

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from shared.tracer import Tracer

_SERVER_ERROR: Final = 500
# A traceparent of version 00 has 55 characters, and of later ones hardly many more (W3C Trace Context, section 3.2).
_MAX_PARENT_BYTES: Final = 128

# The recorded POST that this task answers.
_posting: ContextVar["Span | None"] = ContextVar("posting", default=None)


def make_commit(store: Store, tracer: "Tracer | None") -> GroupCommit:
    """Return a group commit into `store`, which adds to the spans of POSTs if there is a tracer."""
    return GroupCommit(store) if tracer is None else TracedCommit(store, tracer=tracer)


def trace_posts(
    handler: RequestHandler, tracer: "Tracer | None", *, route: str, addresses: AddressRules
) -> RequestHandler:
    """Return `handler` with a span around each request; as it is if there is no tracer."""
    return handler if tracer is None else TracedPost(handler, tracer=tracer, route=route, addresses=addresses).handle


class TracedPost:
    """Handles a request as `handler` does, in a span. `route` is the path with a placeholder for the token."""

    def __init__(self, handler: RequestHandler, *, route: str, tracer: "Tracer", addresses: AddressRules) -> None:
        self._handler = handler
        self._name = f"POST {route}"
        self._attributes = {"http.request.method": "POST", "http.route": route}
        self._tracer = tracer
        self._addresses = addresses

    async def handle(self, scope: Scope, receive: Receive) -> Answer:
        """Return the answer to one request. Raise what `handler` raises."""
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
    """A group commit that says in the span of each POST what was stored, with how many others, and where."""

    def __init__(self, store: Store, *, tracer: "Tracer") -> None:
        super().__init__(store)
        self._tracer = tracer

    async def accept(self, entry: BatchEntry, size_bytes: int) -> Commit:
        """Return when `entry` is durable. Raise StoreUnavailable."""
        posting = _posting.get()
        if posting is None:
            return await super().accept(entry, size_bytes)
        posting.set_attribute("callbacks.source", entry.source)
        posting.set_attribute("callbacks.kind", counted_kind(entry.kind))
        posting.set_attribute("callbacks.records", entry.records)
        if isinstance(entry, Accepted):
            trace = self._tracer.traceparent(posting)
            entry = TracedAccepted(entry.kind, entry.source, entry.received_ms, entry.records, entry.body, trace)
        else:
            posting.set_attribute("callbacks.outcome", "quarantined")
        commit = await super().accept(entry, size_bytes)
        posting.set_attribute("messaging.batch.message_count", commit.entries)
        posting.set_attribute("callbacks.destination", commit.destination)
        return commit
