"""Puts the spans of `ingest/trace/spans.py` around the parts of the application, if traces are asked for.

Without traces every part stays as it is, so they cost nothing.
"""

from typing import TYPE_CHECKING

from ingest.endpoint import RequestHandler
from ingest.group_commit import GroupCommit, Store
from ingest.sources import AddressRules
from ingest.trace.spans import TracedCommit, TracedDrain, TracedPost, TrackedStore
from shared import tracing

if TYPE_CHECKING:
    from shared.tracer import Tracer


class Untraced:
    """Wraps nothing."""

    def redis(self, store: Store) -> Store:
        """Return `store`, which writes to Redis, with its spans."""
        return store

    def drain(self, store: Store) -> Store:
        """Return `store`, which takes what waited in the spool, with its spans."""
        return store

    def commit(self, store: Store) -> GroupCommit:
        """Return the group commit into `store`, which wraps the store that was given to `redis`."""
        return GroupCommit(store)

    def post(self, handler: RequestHandler, *, route: str, addresses: AddressRules) -> RequestHandler:  # noqa: ARG002 # as below
        """Return `handler`, which answers POSTs to `route`, with its spans."""
        return handler

    def close(self) -> None:
        """Export the remaining spans. Blocks for a second or so at most."""


class Traces(Untraced):
    """Wraps every part to record its spans with `tracer`."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer
        self._redis: TrackedStore | None = None

    def redis(self, store: Store) -> Store:
        """Return `store`, which writes to Redis, with its spans."""
        self._redis = TrackedStore(store)
        return self._redis

    def drain(self, store: Store) -> Store:
        """Return `store`, which takes what waited in the spool, with its spans."""
        return TracedDrain(store, tracer=self._tracer)

    def commit(self, store: Store) -> GroupCommit:
        """Return the group commit into `store`, which wraps the store that was given to `redis`."""
        return TracedCommit(store, redis=self._redis or TrackedStore(store), tracer=self._tracer)

    def post(self, handler: RequestHandler, *, route: str, addresses: AddressRules) -> RequestHandler:
        """Return `handler`, which answers POSTs to `route`, with its spans."""
        return TracedPost(handler, route=route, tracer=self._tracer, addresses=addresses).handle

    def close(self) -> None:
        """Export the remaining spans. Blocks for a second or so at most."""
        self._tracer.close()


def start() -> Untraced:
    """Return the wrapper that OpenTelemetry's variables ask for."""
    tracer = tracing.start("callbacks.web")
    return Untraced() if tracer is None else Traces(tracer)
