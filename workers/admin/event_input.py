"""Events from a file: lines of `event.to_json()`, or the body of a callback as the gateway posts it.

An event may be inside a dead letter, as `callbacks dead show --json` prints it.
"""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from shared import body_parser, body_shapes, callback_events, events, wire
from shared.cooperative import run_to_end
from shared.errors import CallbacksError, NotJson, UnexpectedShape
from shared.events import Event, ReplyEvent, ReportEvent

# The source of events read from a callback's body.
SOURCE: Final = "given"
# The path of the whole document, which the gateway's errors end with; it says nothing to people.
_ROOT_PATH: Final = ": $"
_KINDS: Final[dict[Any, type[ReportEvent] | type[ReplyEvent]]] = {"report": ReportEvent, "reply": ReplyEvent}


class NoEvents(CallbacksError):
    """No event could be read."""


def parse(text: bytes) -> list[Event]:
    """Return the events in a callback's body, or in lines of JSON: events, dead letters or bodies. Raise NoEvents."""
    if not text.strip():
        raise NoEvents("the file is empty")
    try:
        whole = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if len(lines) == 1:
            return _parse_line(text, text, "")
        return [event for number, line in lines for event in _parse_line(line, line, f"line {number}: ")]
    return _parse_line(whole, text, "")


def _parse_line(value: Any, text: bytes, where: str) -> list[Event]:
    """Return the events of one line, or of the whole text. `value`: the decoded JSON, or the text if not decoded."""
    try:
        if isinstance(value, bytes):
            value = msgspec.json.decode(value)
        if isinstance(value, dict) and "died_at" in value and isinstance(value.get("event"), dict):
            value = value["event"]
        if isinstance(value, dict) and value.get("kind") in ("report", "reply") and "raw" in value:
            return [_parse_event(value)]
        received_at = datetime.now(UTC)
        return [
            event
            for callback in _parse_callbacks(text)
            for event in callback_events.from_callback(callback, source=SOURCE, received_at=received_at)
        ]
    except (NotJson, UnexpectedShape, msgspec.ValidationError) as exc:
        raise NoEvents(f"{where}{str(exc).removesuffix(_ROOT_PATH)}") from exc
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise NoEvents(f"{where}not JSON: {exc}") from exc


def _parse_event(value: dict[str, Any]) -> Event:
    kind = _KINDS[value["kind"]]
    missing = [field for field in kind.__struct_fields__ if field not in value]
    if missing:
        raise UnexpectedShape(f"an event of kind {value['kind']!r} needs {', '.join(missing)} too")
    (event,) = events.from_arrays([[value["kind"], *(value[field] for field in kind.__struct_fields__)]])
    return event


def _parse_callbacks(text: bytes) -> list[wire.Callback]:
    try:
        callbacks = [wire.read(text, None)]
    except UnexpectedShape as exc:
        parts = run_to_end(body_shapes.split(text, None, exc))
        if not parts:
            raise
        callbacks = [wire.read(part.body, None) for part in parts]
    faults = [fault for callback in callbacks for fault in callback.faults]
    if faults:
        raise UnexpectedShape("; ".join(body_parser.summarize(faults)))
    return callbacks
