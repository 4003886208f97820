"""A planned callback: what each of its attempts will send.

Reports are sent again as they were. A reply gets a new req_uuid with every attempt: "req_uuid is
unique for every callback, including retries" (specification, "Message reply callback").
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from callbacks.simulator.payloads import ReplyBody, ReplyKey, ReportKey, StatusBody

CallbackKind: TypeAlias = Literal["status", "reply"]

UrlForm: TypeAlias = Literal["own", "other kind", "no kind", "trailing slash", "doubled slash"]
"""How a callback's URL is written: that of its kind as it is given, that of the other kind, that of both kinds, …"""

ATTEMPTS = 3
"""After these the callback is discarded (specification, "Callback failure")."""

DOCUMENTED_HEADERS: Final[Mapping[str, str]] = MappingProxyType({"Content-Type": "application/json; charset=utf-8"})

_encode = msgspec.json.Encoder().encode


class EncodedBody(Struct, frozen=True):
    """An encoded request body, and the natural keys of its records."""

    data: bytes
    reports: tuple[ReportKey, ...] = ()
    replies: tuple[ReplyKey, ...] = ()


class PlannedCallback(Struct, frozen=True):
    """One callback: its kind, a body for each attempt, and whether it repeats an earlier one on purpose.

    `oddity` names what is odd about it, "" for none. `headers` are those that describe the body.
    """

    kind: CallbackKind
    bodies: tuple[EncodedBody, ...]
    repeat: bool = False
    oddity: str = ""
    headers: Mapping[str, str] = DOCUMENTED_HEADERS
    url_form: UrlForm = "own"


def status_callback(body: StatusBody) -> PlannedCallback:
    """Return the callback that sends these reports, the same bytes at every attempt."""
    encoded = EncodedBody(_encode(body), reports=tuple(report.key for report in body.data))
    return PlannedCallback("status", (encoded,) * ATTEMPTS)


def reply_callback(body: ReplyBody, *, req_uuids: tuple[str, ...], repeat: bool = False) -> PlannedCallback:
    """Return the callback that sends this reply under `req_uuids`, one for each attempt."""
    attempts = (msgspec.structs.replace(body, req_uuid=req_uuid) for req_uuid in req_uuids)
    return PlannedCallback("reply", tuple(EncodedBody(_encode(sent), replies=(sent.key,)) for sent in attempts), repeat)
