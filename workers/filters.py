"""Which events a handler wants: all that expand workers know of it. One process can pass it to another.

Only the handler's own workers import its module and read its settings.
"""

from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from shared import opt_outs
from shared.events import Event, ReportTraits

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
    @property
    def opt_outs(self) -> bool | None: ...


class _Named(_Declared, Protocol):
    @property
    def name(self) -> str: ...


class Filters(Struct, frozen=True, kw_only=True):
    """A handler's name and its filters. A filter that is None matches everything."""

    name: str
    kinds: frozenset[EventKind]
    statuses: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    final: bool | None = None
    opt_outs: bool | None = None

    def wants(self, event: Event | ReportTraits) -> bool:
        """Return whether the handler is to have `event`."""
        return matches(self, event)


def from_handler(handler: _Named) -> Filters:
    """Return the filters that a handler was declared with."""
    return Filters(
        name=handler.name,
        kinds=handler.kinds,
        statuses=handler.statuses,
        channels=handler.channels,
        sources=handler.sources,
        final=handler.final,
        opt_outs=handler.opt_outs,
    )


def matches(filters: _Declared, event: Event | ReportTraits) -> bool:
    """Return whether `event` matches. `statuses` and `final` apply to reports only, `opt_outs` to replies only."""
    if event.kind not in filters.kinds:
        return False
    if filters.channels is not None and event.channel not in filters.channels:
        return False
    if filters.sources is not None and event.source not in filters.sources:
        return False
    if event.kind == "reply":
        return filters.opt_outs is None or (opt_outs.wish(event.text) is not None) is filters.opt_outs
    if filters.statuses is not None and event.status not in filters.statuses:
        return False
    return filters.final is None or event.is_final is filters.final
