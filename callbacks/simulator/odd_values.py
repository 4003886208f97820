"""Odd ways to write a value of a report or a reply, which a receiver is to understand, or to read as none.

Each has the name of its case in `tests/payloads`, which says who writes so, and comes with what of the report's natural
key a receiver then reads.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from typing import Any, Final, TypeAlias

from msgspec import UNSET, Raw

Members: TypeAlias = dict[str, Any]
"""An object by its keys, as it is written. A value of UNSET leaves the key out, Raw is written as it is."""

_TIMESTAMP = "%Y-%m-%dT%H:%M:%SZ"
_SUMMER = timezone(timedelta(hours=2))
_REQUIRED: Final = frozenset(("message_id", "status"))
_EMPTY_KEY: Final[Members] = dict.fromkeys(("type", "to", "micro_timestamp", "error_code"))

# From a report's seconds and milliseconds: its `timestamp`, its `micro_timestamp`, and the milliseconds that count.
TIMES: Final[dict[str, Callable[[int, int], tuple[Any, Any, int | None]]]] = {
    "times/micro-timestamp-zero": lambda s, _: (s, 0, s * 1000),
    "times/both-zero": lambda _s, _ms: (0, 0, None),
    "times/absent": lambda _s, _ms: (UNSET, UNSET, None),
    "times/empty-text": lambda _s, _ms: (None, "", None),
    "times/fraction-of-zero": lambda s, _: (_literal(f"{s}.0"), UNSET, s * 1000),
    "times/seconds-with-fraction": lambda _, ms: (_literal(_seconds(ms)), UNSET, ms),
    "times/seconds-with-fraction-as-text": lambda _, ms: (_seconds(ms), UNSET, ms),
    "times/digits-as-text": lambda s, ms: (str(s), str(ms), ms),
    "times/blanks-around-digits": lambda s, ms: (f" {s} ", f"{ms} ", ms),
    "times/exponent": lambda s, ms: (_literal(_exponent(s)), _literal(_exponent(ms)), ms),
    "times/exponent-as-text": lambda _, ms: (_exponent(ms), UNSET, ms),
    "times/milliseconds": lambda _, ms: (ms, ms * 1000, ms),
    "times/milliseconds-alone": lambda _, ms: (ms, UNSET, ms),
    "times/rfc3339": lambda s, _: (_utc(s, _TIMESTAMP), UNSET, s * 1000),
    "times/rfc3339-with-offset": lambda s, ms: (
        datetime.fromtimestamp(s, _SUMMER).strftime(f"%Y-%m-%dT%H:%M:%S.{ms % 1000:03}0000+02:00"), UNSET, ms
    ),
    "times/rfc3339-without-zone": lambda s, _: (_utc(s, "%Y-%m-%d %H:%M:%S"), UNSET, s * 1000),
    "times/rfc3339-with-unix-milliseconds": lambda s, ms: (_utc(s, _TIMESTAMP), ms, ms),
    "times/leap-second": lambda s, _: (_utc(s, "%Y-%m-%dT%H:%M:60Z"), UNSET, (s - s % 60 + 59) * 1000),
    "times/nanoseconds": lambda s, ms: (s, ms * 10**6, s * 1000),
    "times/dotnet-date": lambda s, ms: (s, f"/Date({ms})/", s * 1000),
    "times/http-date": lambda s, _: (format_datetime(datetime.fromtimestamp(s, UTC), usegmt=True), UNSET, None),
    "times/object": lambda s, ms: ({"$date": _utc(s, _TIMESTAMP)}, ms, ms),
    "times/boolean": lambda _s, _ms: (True, False, None),
    "times/before-year-one": lambda s, _: (s, -62_135_596_800_001, s * 1000),
}  # fmt: skip

# From a report's error code: how it is written, and what is read.
ERROR_CODES: Final[dict[str, Callable[[int], tuple[Any, int | None]]]] = {
    "numbers/error-code-not-a-number": lambda _: ("21b", None),
    "numbers/error-code-as-text": lambda code: (str(code), code),
    "numbers/error-code-with-fraction-of-zero": lambda code: (_literal(f"{code}.0"), code),
    "numbers/error-code-with-leading-zeros": lambda code: (f"+{code:04}", code),
    "numbers/error-code-empty": lambda _: ("", None),
    "numbers/error-code-null": lambda _: (None, None),
    "numbers/error-code-fraction": lambda code: (_literal(f"{code}.5"), None),
    "numbers/error-code-boolean": lambda _: (False, None),
    "numbers/error-code-empty-array": lambda _: ([], None),
    "numbers/error-code-beyond-a-double": lambda _: (_literal("1e400"), None),
}

# From a report: the members that change, and what changes in its key.
RECORDS: Final[dict[str, Callable[[Members], tuple[Members, Members]]]] = {
    "numbers/message-id-as-integer": lambda it: ({"message_id": _literal(it["message_id"])}, {}),
    "numbers/message-id-as-double": lambda it: (
        {"message_id": _literal(_double(it["message_id"]))},
        {"message_id": str(int(Decimal(_double(it["message_id"]))))},
    ),
    "numbers/number-as-integer": lambda it: ({"to": _literal(it["to"])}, {}),
    "numbers/number-with-fraction-of-zero": lambda it: ({"to": _literal(f"{it['to']}.0")}, {}),
    "numbers/number-with-exponent": lambda it: ({"to": _literal(_exponent(int(it["to"])))}, {}),
    "numbers/client-message-id-with-exponent": lambda _: ({"client_message_id": _literal("8.6e+47")}, {}),
    "statuses/lower-case": lambda it: ({"status": it["status"].lower()}, {}),
    "statuses/mixed-case-and-blanks": lambda it: ({"status": f" {it['status'].capitalize()}\n"}, {}),
    "statuses/new": lambda _: ({"status": "QUEUED"}, {"status": "QUEUED"}),
    "statuses/new-in-lower-case": lambda _: ({"status": "queued at carrier"}, {"status": "queued at carrier"}),
    "statuses/as-number": lambda _: ({"status": 2}, {"status": "2"}),
    "statuses/channel-in-lower-case": lambda it: ({"type": it["type"].lower()}, {}),
    "statuses/channel-new": lambda _: ({"type": "WHATSAPP"}, {"type": "WHATSAPP"}),
    "statuses/channel-absent": lambda _: ({"type": UNSET}, {"type": None}),
    "statuses/channel-unreadable": lambda it: ({"type": [it["type"]]}, {"type": None}),
    "texts/sender-of-the-sms-page": lambda it: ({"from": UNSET, "sms_from": it["from"], "viber_from": ""}, {}),
    "texts/sender-as-number": lambda _: ({"from": 35679000042}, {}),
    "texts/sender-unreadable": lambda it: ({"from": {"name": it["from"]}}, {}),
    # The key keeps the digits: they identify a recipient, however the number is written.
    "texts/number-with-plus": lambda it: ({"to": f"+{it['to'][:3]} {it['to'][3:]}"}, {}),
    "texts/number-unreadable": lambda it: ({"to": [it["to"]]}, {"to": None}),
    "texts/client-message-id-empty": lambda _: ({"client_message_id": ""}, {}),
    "texts/client-message-id-unreadable": lambda _: ({"client_message_id": []}, {}),
    "shapes/repeated-key": lambda it: ({"status": _literal(f'"ACCEPTD","status":"{it["status"]}"')}, {}),
    "shapes/required-keys-only": lambda it: (dict.fromkeys(it.keys() - _REQUIRED, UNSET), _EMPTY_KEY),
    "shapes/nulls": lambda it: (dict.fromkeys(it.keys() - _REQUIRED), _EMPTY_KEY),
}  # fmt: skip

# What a status callback has next to `data`.
ENVELOPES: Final[dict[str, Members]] = {
    "numbers/client-job-id-with-fraction": {"client_job_id": 12.5},
    "texts/client-job-id-unreadable": {"client_job_id": {"campaign": 7}},
    "shapes/no-envelope": {"api_job_id": UNSET, "client_job_id": UNSET},
}

# From the text of a reply: its `message`.
MESSAGES: Final[dict[str, Callable[[str], Any]]] = {
    "texts/number-in-text": lambda _: {"text": 1},
    "texts/empty-array": lambda _: [],
    "texts/plain-text": lambda text: text,
    "texts/plain-number": lambda _: 42,
    "texts/empty-object": lambda _: {},
    "texts/empty-text": lambda _: "",
    "texts/null": lambda _: None,
    "texts/text-null": lambda _: {"text": None},
    "texts/absent": lambda _: UNSET,
    "texts/list-in-text": lambda text: {"text": text.split(" ")},
    "texts/list": lambda text: [text],
    "texts/boolean": lambda _: False,
    "texts/other-keys": lambda text: {"text": text, "media": {"type": "image/png", "size": 1024}},
    "texts/escaped-emoji": lambda _: {"text": _literal('"\\ud83d\\udc4d"')},
    "texts/half-an-emoji": lambda _: {"text": _literal('"Yes please\\ud83d"')},
    "texts/right-to-left": lambda _: {"text": "\u05e9\u05dc\u05d5\u05dd, \u0645\u0631\u062d\u0628\u0627 42! a\u0301"},
    "texts/control-characters": lambda _: {"text": "a\0b\nc\u2028d"},
}  # fmt: skip


def _literal(json: str) -> Raw:
    return Raw(json.encode())


def _utc(seconds: int, notation: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(notation)


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03}"


def _exponent(number: int) -> str:
    exponent = len(str(number)) - 1
    return f"{Decimal(number).scaleb(-exponent)}E{exponent}"


def _double(digits: str) -> str:
    return repr(float(digits))
