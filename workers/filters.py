"""Which events a handler is to have: all that `expand` needs to know of it, and can be handed from process to process.

The handler's module, its settings and what it costs to import them are the business of the handler's own workers.
"""

from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from shared.events import Event

EventKind: TypeAlias = Literal["report", "reply"]


class _Declared(Protocol):
    @property
    def kinds(self) -> frozenset[EventKind]: ...
    @property
    def statuses(self) -> frozenset[str] | None: ...
    @property
    def channels(self) -> frozenset[str] | None: ...
    @property
    def sources(self) -> frozenset[str] | None: ...
    @property
    def final(self) -> bool | None: ...


class _Named(_Declared, Protocol):
    @property
    def name(self) -> str: ...


class Filters(Struct, frozen=True, kw_only=True):
    """A handler's name and its filters. A filter that is None lets everything pass."""

    name: str
    kinds: frozenset[EventKind]
    statuses: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    final: bool | None = None

    def wants(self, event: Event) -> bool:
        """Return whether the handler is to have `event`."""
        return matches(self, event)


def from_handler(handler: _Named) -> Filters:
    """Return the filters of a handler as it is declared."""
    return Filters(
        name=handler.name,
        kinds=handler.kinds,
        statuses=handler.statuses,
        channels=handler.channels,
        sources=handler.sources,
        final=handler.final,
    )


def matches(filters: _Declared, event: Event) -> bool:
    """Return whether `event` passes. Statuses and finality are asked of reports only."""
    if event.kind not in filters.kinds:
        return False
    if filters.channels is not None and event.channel not in filters.channels:
        return False
    if filters.sources is not None and event.source not in filters.sources:
        return False
    if event.kind == "reply":
        return True
    if filters.statuses is not None and event.status not in filters.statuses:
        return False
    return filters.final is None or event.is_final is filters.final
