"""Sample events that a handler wants: as they are where its filters let them pass, else changed so that they do."""

import itertools
from collections.abc import Sequence
from typing import Any

from callbacks import samples
from shared.events import Event, ReportEvent
from workers.declaration import Handler

# Of each kind the most ordinary.
ORDINARY = ("delivered", "reply")
ODD = ("odd-report", "long-report", "emoji", "right-to-left", "nul", "odd-reply", "long-reply")
_STATUSES = ("DELIVRD", "ACCEPTD")  # one that is final, one that is not


def samples_for(handler: Handler, names: Sequence[str] = samples.NAMES) -> dict[str, Event]:
    """Give fresh samples that `handler` wants, by name: of those of its kinds all, or those with one of `names`."""
    passing = _passing_fields(handler)
    found: dict[str, Event] = {}
    for name in names:
        event = samples.one(name)
        if not handler.wants(event):
            event = samples.one(name, **passing)
        if handler.wants(event):
            found[name] = event
    return found


def incomplete_samples_for(handler: Handler) -> dict[str, Event]:
    """Give events that lack one field each, of those that may be missing, as far as `handler` wants them."""
    passing = _passing_fields(handler)
    found: dict[str, Event] = {}
    for kind, make in (("report", samples.report), ("reply", samples.reply)):
        known = passing if kind == "report" else {key: value for key, value in passing.items() if key != "status"}
        for field in make().__struct_fields__:
            if field not in (
                "id",
                "source",
                "message_id",
                "status",
                "is_final",
                "received_at",
                "raw",
            ):
                found[f"{kind} without {field}"] = make(**{**known, field: None})
    return {name: event for name, event in found.items() if handler.wants(event)}


def _passing_fields(handler: Handler) -> dict[str, Any]:
    """Give fields with which an event passes the filters of `handler`: only those that it filters by."""
    statuses = sorted(handler.statuses or _STATUSES)
    channels = sorted(handler.channels or ("VIBER",))
    sources = sorted(handler.sources or ("samples",))
    given: dict[str, Any] = {}
    for status, channel, source in itertools.product(statuses, channels, sources):
        event: Event = samples.report(status, channel, source=source)
        if "report" not in handler.kinds:
            event = samples.reply(channel=channel, source=source)
        if handler.wants(event):
            if isinstance(event, ReportEvent) and (handler.statuses is not None or handler.final is not None):
                given["status"] = status
            if handler.channels is not None:
                given["channel"] = channel
            if handler.sources is not None:
                given["source"] = source
            break
    return given
