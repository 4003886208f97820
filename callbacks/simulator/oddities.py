"""Writes callbacks of a campaign oddly, as the senders of `tests/payloads` do, for a receiver that must take them.

None costs an event: a value that means nothing is missing in it, and then in its natural key too. The name of an oddity
is that of its case, as `times/rfc3339`.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from callbacks.simulator import odd_bodies, odd_values
from callbacks.simulator.callback import DOCUMENTED_HEADERS, CallbackKind, EncodedBody, PlannedCallback, UrlForm
from callbacks.simulator.odd_values import Members
from callbacks.simulator.payloads import ReportKey

_KEY: Final = ("message_id", "type", "status", "to", "micro_timestamp", "error_code")
# A sender's name beyond ASCII, and within each of the charsets.
_SENDER: Final = "Été"


class Draft(Struct):
    """A body that is being written, the keys of its records, and the record that is written oddly."""

    body: Any
    keys: list[Members]
    at: int

    @property
    def record(self) -> Members:
        """The record of a status callback that is written oddly."""
        record: Members = self.body["data"][self.at]
        return record

    def change_record(self, members: Members, key: Members) -> None:
        """Change members of that record, and of its natural key."""
        _update(self.record, members)
        self.keys[self.at].update(key)


class Oddity(Struct, frozen=True):
    """One way to write callbacks of `kind`, None for both, oddly.

    `change` changes a draft, and returns False if the draft does not allow it. `encode` makes bytes of a body's text.
    """

    name: str
    kind: CallbackKind | None
    change: Callable[[Draft], bool] | None = None
    encode: Callable[[str], bytes] = str.encode
    headers: Mapping[str, str] = DOCUMENTED_HEADERS
    url_form: UrlForm = "own"

    def write(self, callback: PlannedCallback, at: int) -> PlannedCallback | None:
        """Return the callback, its record number `at` written oddly; None if it cannot be written in this way."""
        bodies: list[EncodedBody] = []
        for body in callback.bodies:
            draft = Draft(
                msgspec.json.decode(body.data), [dict(zip(_KEY, key, strict=True)) for key in body.reports], at
            )
            if self.change is not None and not self.change(draft):
                return None
            data = self.encode(msgspec.json.encode(draft.body).decode())
            bodies.append(msgspec.structs.replace(body, data=data, reports=tuple(map(_report_key, draft.keys))))
        return msgspec.structs.replace(
            callback, bodies=tuple(bodies), oddity=self.name, headers=self.headers, url_form=self.url_form
        )


class OddWriter:
    """Writes callbacks oddly, in each way in turn: so all of them come up in a campaign that is not too small."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        ways = rng.sample(ODDITIES, len(ODDITIES))
        self._ways: dict[CallbackKind, list[Oddity]] = {
            "status": [way for way in ways if way.kind != "reply"],
            "reply": [way for way in ways if way.kind != "status"],
        }

    def write(self, callback: PlannedCallback) -> PlannedCallback:
        """Return the callback as it is written in the next way that is possible for it."""
        ways = self._ways[callback.kind]
        at = self._rng.randrange(max(1, len(callback.bodies[0].reports)))
        for index, oddity in enumerate(ways):
            written = oddity.write(callback, at)
            if written is not None:
                ways.append(ways.pop(index))
                return written
        return callback


def _report_key(key: Members) -> ReportKey:
    return tuple(key[name] for name in _KEY)


def _update(members: Members, changes: Members) -> None:
    for name, value in changes.items():
        if value is UNSET:
            members.pop(name, None)
        else:
            members[name] = value


def _list_oddities() -> Iterator[Oddity]:
    for name, write_time in odd_values.TIMES.items():
        yield Oddity(name, "status", _changing_time(write_time))
    for name, write_code in odd_values.ERROR_CODES.items():
        yield Oddity(name, "status", _changing_code(write_code))
    for name, write_record in odd_values.RECORDS.items():
        yield Oddity(name, "status", _changing_record(write_record))
    for name, members in odd_values.ENVELOPES.items():
        yield Oddity(name, "status", _changing_envelope(members))
    for name, write_message in odd_values.MESSAGES.items():
        yield Oddity(name, "reply", _changing_message(write_message))
    for name, (kind, reshape) in odd_bodies.SHAPES.items():
        yield Oddity(name, kind, _reshaping(reshape))
    for name, (kind, url_form) in odd_bodies.URLS.items():
        yield Oddity(name, kind, url_form=url_form)
    for name, (headers, encode) in odd_bodies.ENCODINGS.items():
        yield Oddity(name, None, _name_sender, encode, headers)


def _changing_time(write: Callable[[int, int], tuple[Any, Any, int | None]]) -> Callable[[Draft], bool]:
    def change(draft: Draft) -> bool:
        timestamp, micro_timestamp, ms = write(draft.record["timestamp"], draft.record["micro_timestamp"])
        draft.change_record({"timestamp": timestamp, "micro_timestamp": micro_timestamp}, {"micro_timestamp": ms})
        return True

    return change


def _changing_code(write: Callable[[int], tuple[Any, int | None]]) -> Callable[[Draft], bool]:
    def change(draft: Draft) -> bool:
        written, read = write(draft.record["error_code"])
        draft.change_record({"error_code": written}, {"error_code": read})
        return True

    return change


def _changing_record(write: Callable[[Members], tuple[Members, Members]]) -> Callable[[Draft], bool]:
    def change(draft: Draft) -> bool:
        draft.change_record(*write(draft.record))
        return True

    return change


def _changing_envelope(members: Members) -> Callable[[Draft], bool]:
    def change(draft: Draft) -> bool:
        _update(draft.body, members)
        return True

    return change


def _changing_message(write: Callable[[str], Any]) -> Callable[[Draft], bool]:
    def change(draft: Draft) -> bool:
        _update(draft.body, {"message": write(draft.body["message"].get("text", ""))})
        return True

    return change


def _reshaping(reshape: Callable[[Members], Any]) -> Callable[[Draft], bool]:
    def change(draft: Draft) -> bool:
        written = reshape(draft.body)
        draft.body = written
        return written is not None

    return change


def _name_sender(draft: Draft) -> bool:
    # The sender of a report and the recipient of a reply are the same name, and identify nothing.
    if "data" in draft.body:
        draft.record["from"] = _SENDER
    else:
        draft.body["to"] = _SENDER
    return True


ODDITIES: Final = tuple(_list_oddities())
