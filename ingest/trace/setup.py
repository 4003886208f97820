"""Where the application is assembled, this puts the spans of `ingest/trace/spans.py` around its parts, or nothing.

Without traces every part stays what it is, so they cost nothing.
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
    """Leaves everything as it is."""

    def redis(self, store: Store) -> Store:
        """Give the store that leads to Redis."""
        return store

    def drain(self, store: Store) -> Store:
        """Give the store that takes what waited in the spool."""
        return store

    def commit(self, store: Store) -> GroupCommit:
        """Give the group commit into `store`, in which the store given to `redis` stands somewhere."""
        return GroupCommit(store)

    def post(self, handler: RequestHandler, *, route: str, addresses: AddressRules) -> RequestHandler:  # noqa: ARG002 # as below
        """Give the handler of POSTs to `route`."""
        return handler

    def close(self) -> None:
        """Export what is left. Blocks, for a second or so at most."""


class Traces(Untraced):
    """Records them all with `tracer`."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer
        self._redis: TrackedStore | None = None

    def redis(self, store: Store) -> Store:
        """Give the store that leads to Redis."""
        self._redis = TrackedStore(store)
        return self._redis

    def drain(self, store: Store) -> Store:
        """Give the store that takes what waited in the spool."""
        return TracedDrain(store, tracer=self._tracer)

    def commit(self, store: Store) -> GroupCommit:
        """Give the group commit into `store`, in which the store given to `redis` stands somewhere."""
        return TracedCommit(store, redis=self._redis or TrackedStore(store), tracer=self._tracer)

    def post(self, handler: RequestHandler, *, route: str, addresses: AddressRules) -> RequestHandler:
        """Give the handler of POSTs to `route`."""
        return TracedPost(handler, route=route, tracer=self._tracer, addresses=addresses).handle

    def close(self) -> None:
        """Export what is left. Blocks, for a second or so at most."""
        self._tracer.close()


def start() -> Untraced:
    """Give what OpenTelemetry's variables ask for."""
    tracer = tracing.start("callbacks.web")
    return Untraced() if tracer is None else Traces(tracer)
