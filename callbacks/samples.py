"""Sample events to try a handler with, parsed as the gateway's real callbacks are.

    from callbacks import samples

    samples.report("UNDELIV", client_message_id="order-7")
    samples.named()["sticker"]
    samples.callback(samples.one("reply"))  # the body in which the gateway would post it

Each sample has a new `id`, so two samples are two events. To repeat an event, use the same object twice.
"""

import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from callbacks import Event, ReplyEvent, ReportEvent
from shared import callback_events, events, wire
from shared.errors import UnexpectedShape

# Field of the event: key of the callback. A field that is None is left out.
_ENVELOPE: Final = {"api_job_id": "api_job_id", "client_job_id": "client_job_id"}
_REPORT: Final = {
    "message_id": "message_id",
    "client_message_id": "client_message_id",
    "sender": "from",
    "recipient": "to",
    "error_code": "error_code",
}
_REPLY: Final = {
    **_ENVELOPE,
    "reply_message_id": "reply_message_id",
    "orig_message_id": "orig_message_id",
    "req_uuid": "req_uuid",
    "channel": "channel",
    "sender": "from",
    "recipient": "to",
}
_OTHER_FIELDS: Final = ("source", "occurred_at", "received_at", "raw")
_ODD: Final = "nul \x00, break \u2028, combining e\u0301, 👩\u200d👩\u200d👧 👍🏽, \u202eשלום\u202c, 'quoted\"; --\\"  # noqa: RUF001 # Hebrew
# Each sample has another millisecond, because a report's `id` depends on the time. If up to this number are made at
# once, none is of the future.
_MAX_AT_ONCE: Final = 60_000
_made_ms: Final = [0]
_making: Final = threading.Lock()


def report(status: str = "DELIVRD", channel: str | None = "VIBER", **fields: Any) -> ReportEvent:
    """Return a report as if it had just been received. `fields` are those of ReportEvent; None leaves one out.

    `id`, `kind` and `is_final` cannot be set: they follow from the others. `raw` adds keys to the record, or replaces
    their values, as the gateway would send them: `raw={"sms_from": "Shop", "from": ""}`. Raise TypeError for an unknown
    field, ValueError for a value that no callback could have.
    """
    given: dict[str, Any] = {
        "api_job_id": str(uuid.uuid4()),
        "client_job_id": "autumn-offers",
        "message_id": _digits(),
        "client_message_id": f"order-{secrets.randbelow(10**6)}",
        "sender": "Fortytwo",
        "recipient": _number(),
        "error_code": 0,
        **_with_times(fields),
    }
    _check(given, {**_ENVELOPE, **_REPORT})
    record = {"type": channel, "status": status, **_wire_keys(given, _REPORT), **given["raw"]}
    event = _read_event({**_wire_keys(given, _ENVELOPE), "data": [_present(record)]}, given)
    assert isinstance(event, ReportEvent)  # noqa: S101 # for the type checker
    return event


def reply(text: str | None = "Yes, please", **fields: Any) -> ReplyEvent:
    """Return a reply as if it had just been received; a sticker has the text None. `fields` are as for `report`."""
    given: dict[str, Any] = {
        "api_job_id": str(uuid.uuid4()),
        "client_job_id": "autumn-offers",
        "reply_message_id": str(uuid.uuid4()),
        "orig_message_id": _digits(),
        "req_uuid": str(uuid.uuid4()),
        "channel": "VIBER",
        "sender": _number(),
        "recipient": "Fortytwo",
        **_with_times(fields),
    }
    _check(given, _REPLY)
    message = {} if text is None else {"text": text}
    event = _read_event(_present({"message": message, **_wire_keys(given, _REPLY), **given["raw"]}), given)
    assert isinstance(event, ReplyEvent)  # noqa: S101 # for the type checker
    return event


def named(**fields: Any) -> dict[str, Event]:
    """Return a new event of each sample, by name: every status, and unusual events that may come.

    `fields` replace fields of the samples, in reports, replies or both: `named(source="shop", status="UNDELIV")`.
    Raise TypeError and ValueError as `report` does.
    """
    return {name: one(name, **fields) for name in NAMES}


def one(name: str, **fields: Any) -> Event:
    """Return a new event of one sample, as `named` does. Raise KeyError for a name that is not in NAMES."""
    _check(fields, {"status": "status", **_ENVELOPE, **_REPORT, **_REPLY, "text": "text"})
    others = _REPLY_FIELDS if name in _REPORTS else _REPORT_FIELDS
    make: Callable[..., Event] = _REPORTS[name] if name in _REPORTS else _REPLIES[name]
    return make(**{field: value for field, value in fields.items() if field not in others})


def callback(event: Event) -> dict[str, Any]:
    """Return the body of a callback that brings one sample, as the gateway posts it."""
    if isinstance(event, ReplyEvent):
        return event.raw
    envelope = _present({key: getattr(event, field) for field, key in _ENVELOPE.items()})
    return {**envelope, "data": [event.raw]}


def _two_factor(**fields: Any) -> ReportEvent:
    """Return a report of the two-factor API: milliseconds and microseconds, two senders, an error code."""
    ms = _now_ms()
    raw = {"timestamp": ms, "micro_timestamp": ms * 1000, "sms_from": "Fortytwo", "viber_from": ""}
    raw = _without_keys_of(fields, raw)
    given: dict[str, Any] = {"channel": "SMS", "sender": None, "error_code": 943, "raw": raw, **fields}
    return report(**given)


def _odd_spelling(**fields: Any) -> ReportEvent:
    """Return a report with numbers as texts, a number where a text is usual, and unknown keys."""
    ms = _now_ms()
    raw = {
        "message_id": int(_digits()),
        "timestamp": str(ms // 1000),
        "micro_timestamp": str(ms),
        "error_code": "69",
        "client_message_id": "",
        "price": {"amount": 1e-7, "parts": [None, True, 2**70]},
    }
    given: dict[str, Any] = {"status": "UNDELIV", "raw": _without_keys_of(fields, raw), **fields}
    return report(**given)


_REPORT_FIELDS: Final = frozenset((*_REPORT, "status")) - _REPLY.keys()
_REPLY_FIELDS: Final = frozenset((*_REPLY, "text")) - {"channel"} - _REPORT.keys() - _ENVELOPE.keys()
_BARE_REPORT: Final[dict[str, Any]] = dict.fromkeys((*_ENVELOPE, *_REPORT, "occurred_at", "channel"))
_BARE_REPLY: Final[dict[str, Any]] = dict.fromkeys((*_REPLY, "occurred_at", "text"))
del _BARE_REPORT["message_id"], _BARE_REPLY["reply_message_id"]

_REPORTS: Final[dict[str, Callable[..., ReportEvent]]] = {
    "accepted": partial(report, status="ACCEPTD", channel="INTERNAL"),
    "delivered": report,
    "delivered-by-sms": partial(report, channel="SMS"),
    "seen": partial(report, status="SEEN"),
    "undelivered": partial(report, status="UNDELIV", channel="SMS", error_code=69),
    "rejected": partial(report, status="REJECTD", error_code=12),
    "expired": partial(report, status="EXPIRED", error_code=5),
    "deleted": partial(report, status="DELETED"),
    "unknown": partial(report, status="UNKNOWN", channel="SMS"),
    "new-status": partial(report, status="FORWARDED_TWICE"),
    "new-channel": partial(report, channel="CARRIER PIGEON"),
    "two-factor": _two_factor,
    "spelled-otherwise": _odd_spelling,
    "odd-report": partial(
        report,
        status=f"NEW {_ODD}",
        channel=f"BY {_ODD}",
        sender=_ODD,
        client_message_id=_ODD,
        client_job_id=_ODD,
        raw={_ODD: [_ODD]},
    ),
    "long-report": partial(report, client_message_id="ж" * 100_000, raw={"note": "n" * 100_000}),
    "bare-report": partial(report, **_BARE_REPORT),
}
_REPLIES: Final[dict[str, Callable[..., ReplyEvent]]] = {
    "reply": reply,
    "sticker": partial(reply, text=None),
    "emoji": partial(reply, text="👩\u200d👩\u200d👧\u200d👦 👍🏽 🇲🇹"),
    "right-to-left": partial(reply, text="\u202bכן, בבקשה\u202c نعم"),  # noqa: RUF001 # Hebrew
    "nul": partial(reply, text="before\x00after"),
    "odd-reply": partial(reply, text=_ODD, channel=_ODD, client_job_id=_ODD, orig_message_id=_ODD, raw={_ODD: [_ODD]}),
    "long-reply": partial(reply, text="Žö👋 " * 20_000 + "\n" * 20_000),
    "bare-reply": partial(reply, **_BARE_REPLY),
}
NAMES: Final = (*_REPORTS, *_REPLIES)


def _with_times(fields: dict[str, Any]) -> dict[str, Any]:
    received_at = events.utc_time(_now_ms())
    times = {"occurred_at": received_at - timedelta(seconds=1), "received_at": received_at}
    return {"source": "samples", "raw": {}, **times, **fields}


def _check(given: dict[str, Any], known: dict[str, str]) -> None:
    unknown = sorted(given.keys() - known.keys() - set(_OTHER_FIELDS))
    if unknown:
        raise TypeError(f"unknown fields: {', '.join(unknown)}; known are {', '.join((*known, *_OTHER_FIELDS))}")


def _wire_keys(given: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    keys = {key: given[field] for field, key in names.items()}
    occurred_at: datetime | None = given["occurred_at"]
    if occurred_at is not None and names is not _ENVELOPE:
        ms = (occurred_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        keys |= {"timestamp": ms // 1000, "micro_timestamp": ms}
    return _present(keys)


def _without_keys_of(fields: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Return a sample's own keys without those of the fields that the caller sets."""
    replaced = {key for field, key in _REPORT.items() if field in fields}
    if "occurred_at" in fields:
        replaced |= {"timestamp", "micro_timestamp"}
    return {key: value for key, value in raw.items() if key not in replaced}


def _present(keys: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}


def _read_event(body: dict[str, Any], given: dict[str, Any]) -> Event:
    try:
        callback = wire.read(json.dumps(body).encode(), None)
    except UnexpectedShape as exc:
        raise ValueError(str(exc)) from exc
    (event,) = callback_events.from_callback(callback, source=given["source"], received_at=given["received_at"])
    return event


def _now_ms() -> int:
    """Return the time of a minute ago, or one after it that no sample has."""
    with _making:
        _made_ms[0] = max(_made_ms[0] + 1, time.time_ns() // 1_000_000 - _MAX_AT_ONCE)
        return _made_ms[0]


def _digits() -> str:
    """Return a message id, beyond 2**63 as the gateway's are."""
    return str(secrets.randbelow(9 * 10**19) + 10**19)


def _number() -> str:
    """Return a phone number in a range that Malta does not use."""
    return f"35600{secrets.randbelow(10**6):06}"
