"""The conformance set: bodies as senders really write them, and what must come of each.

A case is a file `tests/payloads/KIND/NAME.toml`; its first line says who writes so. Nothing in it is generated:

    [[post]]                    one POST, or several in their order
    to = "reply"                what follows the token in the URL; absent: "status"; "" is the single URL
    headers = { … }             absent: the gateway's Content-Type
    body = '''…'''              the body literally, in UTF-8
    base64 = "…"                instead of `body`, if it is not UTF-8
    status = 400                absent: 200
    answer = "quarantined"      absent: "accepted"
    error = "…"                 a part of what the answer says is wrong

    [[event]]                   each event that comes of all the posts together, in any order
    kind = "report"             `kind` and other fields as in event.to_json(); those not named may be anything
    none = ["error_code"]       the fields that must be null
    unreadable = ["…"]          the keys of the record that could not be read; absent: none
    raw = { … }                 keys of `raw` with their values

    [[quarantined]]             each entry of the quarantine
    error = "…"                 a part of its error

Those in `identity` are about which callbacks are one event; all others that become events are oddities of the simulator
(`callbacks simulate --odd`), by the same name.
"""

import base64
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PAYLOADS: Final = Path(__file__).parent / "payloads"
_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}


@dataclass(frozen=True)
class Post:
    """One POST, and the answer to it."""

    to: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer: str
    error: str

    def differences(self, status: int, answer: dict[str, Any]) -> list[str]:
        """Return what of an answer is not as expected."""
        said = answer.get("error", "") if status == 200 else answer["detail"]
        expected = (self.status, self.answer if self.status == 200 else self.status, bool(self.error))
        if (status, answer["status"], bool(said)) == expected and self.error in said:
            return []
        return [f"answered {status} {answer}, not {self.status} {self.answer} {self.error}"]


@dataclass(frozen=True)
class ExpectedEvent:
    """What must be in an event."""

    fields: dict[str, Any]
    raw: dict[str, Any]
    unreadable: tuple[str, ...]

    def matches(self, event: dict[str, Any]) -> bool:
        """Return whether the JSON form of an event has all of it."""
        return self.fields.items() <= {key: value for key, value in event.items() if key != "raw"}.items() and all(
            key in event["raw"] and event["raw"][key] == value for key, value in self.raw.items()
        )


@dataclass(frozen=True)
class Case:
    """A case: its name is `KIND/NAME`."""

    name: str
    posts: tuple[Post, ...]
    events: tuple[ExpectedEvent, ...]
    quarantined: tuple[str, ...]

    @property
    def source(self) -> str:
        """A source of its own, so that its events are known by it."""
        return self.name.replace("/", ".")

    def differences(self, events: Sequence[dict[str, Any]], errors: Sequence[str]) -> list[str]:
        """Return what of the events, in their JSON form, and of the errors in the quarantine is not as expected."""
        left, missing = list(events), []
        for expected in self.events:
            found = next((event for event in left if expected.matches(event)), None)
            if found is None:
                missing.append(expected)
            else:
                left.remove(found)
        differences = [f"no event with {expected.fields} and raw {expected.raw}" for expected in missing]
        differences += [f"unexpected event {event}" for event in left]
        unmatched = list(errors)
        for error in self.quarantined:
            entry = next((entry for entry in unmatched if error in entry), None)
            if entry is None:
                differences.append(f"nothing is quarantined with {error!r}")
            else:
                unmatched.remove(entry)
        return differences + [f"quarantined with {error!r}" for error in unmatched]


def load() -> list[Case]:
    """Return all cases, by name."""
    return [_case(path) for path in sorted(PAYLOADS.glob("*/*.toml"))]


def _case(path: Path) -> Case:
    given = tomllib.loads(path.read_text(encoding="utf-8"))
    return Case(
        name=f"{path.parent.name}/{path.stem}",
        posts=tuple(map(_post, given["post"])),
        events=tuple(map(_event, given.get("event", ()))),
        quarantined=tuple(entry["error"] for entry in given.get("quarantined", ())),
    )


def _post(given: dict[str, Any]) -> Post:
    return Post(
        to=given.get("to", "status"),
        headers=given.get("headers", _HEADERS),
        body=base64.b64decode(given["base64"]) if "base64" in given else given["body"].encode(),
        status=given.get("status", 200),
        answer=given.get("answer", "accepted"),
        error=given.get("error", ""),
    )


def _event(given: dict[str, Any]) -> ExpectedEvent:
    fields = {key: value for key, value in given.items() if key not in {"none", "raw", "unreadable"}}
    return ExpectedEvent(
        fields=fields | dict.fromkeys(given.get("none", ())),
        raw=given.get("raw", {}),
        unreadable=tuple(given.get("unreadable", ())),
    )
