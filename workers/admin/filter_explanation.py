"""Why a handler's filters leave out an event, in words: the same conditions that `Handler.wants` checks."""

from collections.abc import Iterable, Iterator

from shared import opt_outs
from shared.events import Event
from workers.declaration import Handler


def explain(handler: Handler, event: Event) -> Iterator[str]:
    """Yield each reason why the handler's filters leave out `event`; nothing if they match it."""
    if event.kind not in handler.kinds:
        yield f"it takes {describe_kinds(handler)}, and this is a {event.kind}"
        return
    if handler.channels is not None and event.channel not in handler.channels:
        yield f"it takes channels={_set(handler.channels)}, and this came by {event.channel!r}"
    if handler.sources is not None and event.source not in handler.sources:
        yield f"it takes sources={_set(handler.sources)}, and this is from {event.source!r}"
    if event.kind == "reply":
        if handler.opt_outs is not None and (opt_outs.wish(event.text) is not None) is not handler.opt_outs:
            which = "are" if handler.opt_outs else "are not"
            yield (
                f"it takes opt_outs={handler.opt_outs}, replies that {which} STOP, START or another such keyword, and "
                f"this one is {'not ' * handler.opt_outs}one"
            )
        return
    if handler.statuses is not None and event.status not in handler.statuses:
        yield f"it takes statuses={_set(handler.statuses)}, and this is {event.status!r}"
    if handler.final is not None and event.is_final is not handler.final:
        which = "final" if handler.final else "not final"
        yield f"it takes final={handler.final}, reports that are {which}, and this one is {'not ' * handler.final}final"


def describe_kinds(handler: Handler) -> str:
    """Return which kinds of event a handler takes, in words."""
    return " and ".join(name for kind, name in (("report", "reports"), ("reply", "replies")) if kind in handler.kinds)


def describe_filters(handler: Handler) -> Iterator[str]:
    """Yield a handler's filters as they are declared."""
    for option, values in (
        ("statuses", handler.statuses),
        ("channels", handler.channels),
        ("sources", handler.sources),
    ):
        if values is not None:
            yield f"{option}={_set(values)}"
    if handler.final is not None:
        yield f"final={handler.final}"
    if handler.opt_outs is not None:
        yield f"opt_outs={handler.opt_outs}"


def _set(values: Iterable[str]) -> str:
    return "{" + ", ".join(map(repr, sorted(values))) + "}"
