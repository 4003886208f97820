"""The report of `callbacks check --body`, as text and as JSON: bounded, however many records a body has."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

import click
import msgspec
from msgspec import Struct

from callbacks.cli.body_check import BodyAnswer, ReadRecord
from callbacks.cli.terminal_text import printable
from shared.counted import counted

# A reply's text has some thousands of characters. `--json` cuts nothing.
_MAX_CHARACTERS: Final = 200
# Not what the sender wrote, or shown in another way.
_UNSHOWN: Final = frozenset(("kind", "id", "source", "received_at", "raw"))
_CONSEQUENCES: Final = {
    "accepted": "",
    "quarantined": "The service would keep a copy in its quarantine.",
    None: "The service would keep nothing of it.",
}


class BodyReport(Struct, frozen=True):
    """A body's answer and counts, and the records to show: the first `limit` that are well, and as many that are not.

    `unreadable` is the number of events with a field that could not be read, `quarantined` that of records.
    """

    answered: BodyAnswer
    shown: list[ReadRecord]
    events: int
    unreadable: int
    quarantined: int
    omitted: int

    @property
    def is_well(self) -> bool:
        """Whether all of the body was read."""
        return self.answered.kept == "accepted" and not self.unreadable and not self.quarantined


def summarize(answered: BodyAnswer, records: Iterable[ReadRecord], *, limit: int) -> BodyReport:
    """Return the report of a body, with up to twice `limit` records."""
    shown: list[ReadRecord] = []
    events = unreadable = quarantined = omitted = 0
    left = {True: limit, False: limit}
    for record in records:
        events += record.event is not None
        unreadable += bool(record.unreadable)
        quarantined += record.records if record.event is None else 0
        if left[record.is_well]:
            left[record.is_well] -= 1
            shown.append(record)
        else:
            omitted += record.records
    return BodyReport(answered, shown, events, unreadable, quarantined, omitted)


def to_text(report: BodyReport) -> str:
    """Return the report for people."""
    return "\n".join(_lines(report))


def to_json(report: BodyReport) -> bytes:
    """Return the report as one JSON object."""
    return msgspec.json.encode(
        {
            "status": report.answered.status,
            "answer": report.answered.document,
            "kept": report.answered.kept,
            "events": report.events,
            "events_with_unreadable_fields": report.unreadable,
            "records_quarantined": report.quarantined,
            "records": [_record_fields(record) for record in report.shown],
            "records_omitted": report.omitted,
        }
    )


def _lines(report: BodyReport) -> Iterator[str]:
    answered = report.answered
    if answered.kept == "accepted":
        counts = counted(report.events, "event")
        counts += f" ({report.unreadable:,} with fields that cannot be read)" if report.unreadable else ""
        counts += f", {counted(report.quarantined, 'record')} quarantined" if report.quarantined else ""
        yield _marked(report.is_well, f"{answered.status} accepted: {counts}")
    elif answered.status == HTTPStatus.OK:
        yield _marked(False, f"{answered.status} quarantined")
        yield f"    {_cut(answered.document['error'])}"
    else:
        yield _marked(False, f"{answered.status} {answered.document['title']}")
        yield f"    {_cut(answered.document['detail'])}"
    if consequence := _CONSEQUENCES[answered.kept]:
        yield f"    {consequence}"
    for record in report.shown:
        yield ""
        yield from _record_lines(record)
    if report.omitted:
        yield f"\nNot shown: {counted(report.omitted, 'record')}. --limit shows more."


def _record_lines(record: ReadRecord) -> Iterator[str]:
    last = record.number + record.records - 1
    name = f"record {record.number}" if record.records == 1 else f"records {record.number} to {last}"
    if record.event is None:
        yield _marked(False, f"{name}: quarantined: {_cut(record.error)}")
        return
    same = "" if record.repeats is None else f", the same event as record {record.repeats}: delivered once"
    yield _marked(record.is_well, f"{name}: {record.event.kind}{same}")
    fields: dict[str, Any] = msgspec.json.decode(record.event.to_json())
    for field, value in fields.items():
        if field not in _UNSHOWN:
            yield f"    {field:<18} {_value(value)}"
    for key, value in record.unreadable.items():
        yield click.style(f"    {printable(key)} cannot be read; in raw: {_value_as_json(value)}", fg="yellow")


def _record_fields(record: ReadRecord) -> dict[str, Any]:
    if record.event is None:
        return {"record": record.number, "records": record.records, "error": record.error}
    return {
        "record": record.number,
        "event": msgspec.json.decode(record.event.to_json()),
        "unreadable": record.unreadable,
        "repeats": record.repeats,
    }


def _marked(is_well: bool, line: str) -> str:
    return click.style(f"{'✓' if is_well else '✗'} {line}", fg="green" if is_well else "red")


def _value(value: Any) -> str:
    return "-" if value is None else _cut(value) if isinstance(value, str) else _value_as_json(value)


def _value_as_json(value: Any) -> str:
    return _cut(msgspec.json.encode(value).decode())


def _cut(text: str) -> str:
    line = printable(text[: _MAX_CHARACTERS + 1])
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 1] + "…"
