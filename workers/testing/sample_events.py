"""Sample events that a handler wants: unchanged if they match its filters, else changed so that they match."""

import itertools
from collections.abc import Sequence
from typing import Any

from callbacks import samples
from shared.events import Event, ReportEvent
from workers.declaration import Handler

# The most ordinary sample of each kind.
ORDINARY = ("delivered", "reply")
ODD = ("odd-report", "long-report", "emoji", "right-to-left", "nul", "odd-reply", "long-reply")
_STATUSES = ("DELIVRD", "ACCEPTD")  # one that is final, one that is not


def samples_for(handler: Handler, names: Sequence[str] = samples.NAMES) -> dict[str, Event]:
    """Return new samples that `handler` wants, by name; only those in `names`."""
    matching = _matching_fields(handler)
    found: dict[str, Event] = {}
    for name in names:
        event = samples.one(name)
        if not handler.wants(event):
            event = samples.one(name, **matching)
        if handler.wants(event):
            found[name] = event
    return found


def incomplete_samples_for(handler: Handler) -> dict[str, Event]:
    """Return events that `handler` wants, each without one of the optional fields."""
    matching = _matching_fields(handler)
    found: dict[str, Event] = {}
    for kind, make in (("report", samples.report), ("reply", samples.reply)):
        fields = make().__struct_fields__
        known = {key: value for key, value in matching.items() if key in fields}
        for field in fields:
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


def _matching_fields(handler: Handler) -> dict[str, Any]:
    """Return values of the fields that `handler` filters by, with which an event matches."""
    statuses = sorted(handler.statuses or _STATUSES)
    channels = sorted(handler.channels or ("VIBER",))
    sources = sorted(handler.sources or ("samples",))
    given: dict[str, Any] = {"text": "STOP"} if handler.opt_outs else {}
    for status, channel, source in itertools.product(statuses, channels, sources):
        event: Event = samples.report(status, channel, source=source)
        if "report" not in handler.kinds:
            event = samples.reply(given.get("text", "Yes"), channel=channel, source=source)
        if handler.wants(event):
            if isinstance(event, ReportEvent) and (handler.statuses is not None or handler.final is not None):
                given["status"] = status
            if handler.channels is not None:
                given["channel"] = channel
            if handler.sources is not None:
                given["source"] = source
            break
    return given
