"""The table of `callbacks handlers`, for people and as JSON: rows made of what was found and what Redis says."""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from callbacks.cli.shelf_options import printable, short
from shared.events import rfc3339
from shared.stored_times import stored_time
from workers.admin import filtered
from workers.admin.handler_catalog import Found
from workers.admin.handler_states import State
from workers.declaration import Handler
from workers.runtime.pause import PauseState

Kind: TypeAlias = Literal["named", "installed", "removed"]

# For a terminal of usual width. Longer names get a line of their own.
_COLUMNS: Final = 100
_NAME_COLUMNS: Final = 26
_HEAD: Final = ("waiting", "running", "later", "dead", "oldest", "workers")
_UNKNOWN: Final = "?"


class Row(Struct, frozen=True, kw_only=True):
    """One handler, or (`handler` is None) an entry that gives none. `kind` says why it is listed."""

    name: str
    kind: Kind
    found: Found | None
    state: State | None

    @property
    def handler(self) -> Handler | None:
        """What its author declared, if it can be imported."""
        return None if self.found is None else self.found.handler


def rows(found: Sequence[Found], states: Sequence[State] | None) -> list[Row]:
    """Give a row for each that was found, then for each that is in Redis alone; no states: Redis is not known."""
    by_name = {state.handler: state for state in states or ()}
    told = [
        Row(
            name=one.name,
            kind="named" if one.is_named else "installed",
            found=one,
            state=None if one.handler is None else by_name.pop(one.handler.name, None),
        )
        for one in found
    ]
    # What is installed, is not named and has left something behind was removed, whoever offers it still.
    told = [_removed(row) if row.kind == "installed" and _has_left(row.state) else row for row in told]
    others = (Row(name=name, kind="removed", found=None, state=state) for name, state in by_name.items())
    return told + [row for row in others if _has_left(row.state)]


def as_json(told: Sequence[Row]) -> bytes:
    """Give one object a line."""
    return b"".join(msgspec.json.encode(_object(row)) + b"\n" for row in told)


def as_text(told: Sequence[Row], *, problem: str = "") -> str:
    """Give the table; `problem` is why the state of the queues is not known."""
    return "\n".join(_lines(told, problem)) + "\n"


def _removed(row: Row) -> Row:
    return msgspec.structs.replace(row, kind="removed")


def _has_left(state: State | None) -> bool:
    return state is not None and (state.waiting.total > 0 or state.waiting.dead > 0 or state.waiting.jobs > 0)


def _lines(told: Sequence[Row], problem: str) -> Iterator[str]:
    named = [row for row in told if row.kind == "named" and row.handler is not None]
    if problem:
        yield f"The state of the queues is not known: {problem}."
        yield ""
    if named:
        yield from _table(named)
        yield ""
        for row in named:
            yield from _declared(row)
    for row in told:
        if row.kind == "named" and row.found is not None and row.handler is None:
            yield from _wrapped(f"✗ {row.name}: {_problem(row.found)}")
            yield "    Mend it or take it out of CALLBACKS_HANDLERS; until then no worker starts."
    removed = [row for row in told if row.kind == "removed"]
    if removed:
        yield ""
        yield "Not named in CALLBACKS_HANDLERS here, with something in Redis:"
        yield from _table(removed)
        for row in removed:
            yield from _to_do(row)
    installed = [row for row in told if row.kind == "installed"]
    if installed:
        yield ""
        yield "Installed, and not named in CALLBACKS_HANDLERS:"
        for row in installed:
            yield from _wrapped(f"  {row.name}  {_offer(row)}")


def _table(told: Sequence[Row]) -> Iterator[str]:
    width = max(len(row.name) for row in told if len(row.name) <= _NAME_COLUMNS or row is told[0])
    width = max(7, min(width, _NAME_COLUMNS))
    yield f"{'handler':{width}}" + "".join(f"{head:>8}" for head in _HEAD) + "  state"
    for row in told:
        name = row.name
        if len(name) > width:
            yield name
            name = ""
        yield f"{name:{width}}" + "".join(f"{cell:>8}" for cell in _cells(row.state)) + f"  {_standing(row)}"


def _cells(state: State | None) -> tuple[str, ...]:
    if state is None:
        return (_UNKNOWN,) * len(_HEAD)
    waits = state.waiting
    numbers = (waits.waiting, waits.running, waits.later, waits.dead)
    return (*(f"{number:,}" for number in numbers), age(waits.oldest_at), f"{waits.workers:,}")


def _standing(row: Row) -> str:
    state = row.state
    if state is None:
        return "not known"
    if state.pausing is not None:
        return paused(state.pausing)
    if row.kind == "removed":
        return "at work elsewhere" if state.waiting.workers else "removed"
    return "on" if state.waiting.workers else "on, but no worker"


def paused(pausing: PauseState) -> str:
    """Say in a few words until when a handler is paused, or that it is off."""
    if pausing.until is None:
        return "off"
    return "paused, tries one" if pausing.is_probing else f"paused, until {pausing.until:%H:%M:%S}"


def _pause(state: State | None) -> Iterator[str]:
    if state is None or state.pausing is None:
        return
    pausing = state.pausing
    if pausing.until is None:
        yield f"    off for {age(pausing.since)}: `callbacks handlers on {state.handler}` turns it on"
        return
    yield from _wrapped(
        f"    paused for {age(pausing.since)}, until {rfc3339(pausing.until)}: {short(pausing.reason or '-')}"
    )


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _COLUMNS, subsequent_indent="    ", break_on_hyphens=False)


def age(time: datetime | None) -> str:
    """Give how long ago that is, in a few characters; "-" for never."""
    if time is None:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - time).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _declared(row: Row) -> Iterator[str]:
    handler, found = row.handler, row.found
    if handler is None or found is None:
        return
    package = f" ({found.package})" if found.package else ""
    yield f"{row.name}: {handler.location}{package}"
    yield from _wrapped(f"    takes {', '.join((filtered.takes(handler), *filtered.filters(handler)))}")
    calls = "in batches" if handler.batch else f"{handler.concurrency} at once" if handler.concurrency > 1 else "singly"
    times = "once" if handler.attempts == 1 else f"{handler.attempts} attempts"
    opened = "" if handler.lifespan is None else ", with a lifespan"
    yield f"    {times}, {handler.timeout_seconds:g} s each, {calls}{opened}"
    yield from _pause(row.state)


def _to_do(row: Row) -> Iterator[str]:
    state = row.state
    if state is None:
        return
    yield from _pause(state)
    if state.waiting.workers:
        yield f"    {state.waiting.workers} workers listen for it: they name it in a CALLBACKS_HANDLERS of their own."
    elif state.waiting.total:
        source = f" --from {row.found.entry}" if row.found is not None else " --from MODULE"
        yield f"    `callbacks handlers drain {row.name}{source}` delivers what waits;"
        yield f"    `callbacks handlers drop {row.name}` discards it; or name it in CALLBACKS_HANDLERS again."
    if state.waiting.dead:
        yield f"    `callbacks dead list {row.name}` shows its dead letters; they are dropped at the age of 30 days."


def _offer(row: Row) -> str:
    if row.found is None:
        return ""
    what = row.handler.location if row.handler is not None else _problem(row.found)
    return what + (f" ({row.found.package})" if row.found.package else "")


def _problem(found: Found) -> str:
    """Give what is wrong with an entry, on one line."""
    return " ".join(printable(found.problem).split())


def _object(row: Row) -> dict[str, Any]:
    handler, found, state = row.handler, row.found, row.state
    told: dict[str, Any] = {"name": row.name, "kind": row.kind}
    if found is not None:
        told |= {"entry": found.entry, "package": found.package or None, "problem": found.problem or None}
    told["declared"] = None if handler is None else _options(handler)
    told["queue"] = None if state is None else _queue(state)
    return told


def _options(handler: Handler) -> dict[str, Any]:
    def ordered(values: frozenset[str] | None) -> list[str] | None:
        return None if values is None else sorted(values)

    return {
        "location": handler.location,
        "kinds": sorted(handler.kinds),
        "statuses": ordered(handler.statuses),
        "channels": ordered(handler.channels),
        "sources": ordered(handler.sources),
        "final": handler.final,
        "attempts": handler.attempts,
        "timeout_seconds": handler.timeout_seconds,
        "concurrency": handler.concurrency,
        "batch": handler.batch,
        "lifespan": handler.lifespan is not None,
    }


def _queue(state: State) -> dict[str, Any]:
    waits, pausing = state.waiting, state.pausing
    since_ms = None if state.offered is None else state.offered.since_ms
    return {
        "waiting": waits.waiting,
        "jobs": waits.jobs,
        "running": waits.running,
        "later": waits.later,
        "dead": waits.dead,
        "oldest_at": _time(waits.oldest_at),
        "next_attempt_at": _time(waits.next_attempt_at),
        "workers": waits.workers,
        "offered_since": _time(stored_time(since_ms)) if since_ms else None,
        "paused": None
        if pausing is None
        else {
            "by": pausing.by,
            "since": _time(pausing.since),
            "until": _time(pausing.until),
            "reason": pausing.reason,
            "times": pausing.times,
        },
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)
