"""The output of `callbacks handlers list`, as a table or as JSON, from the catalog and the state in Redis."""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from callbacks.cli.terminal_text import printable, short
from shared import retention
from shared.counted import counted
from shared.events import rfc3339
from shared.stored_times import stored_time
from workers.admin import filter_explanation
from workers.admin.handler_catalog import CatalogEntry
from workers.admin.handler_states import HandlerState
from workers.declaration import Handler
from workers.runtime.pause import PauseState

Kind: TypeAlias = Literal["named", "installed", "removed"]

# For a terminal of usual width. Longer names get a line of their own.
_COLUMNS: Final = 100
_NAME_COLUMNS: Final = 26
# Of each column, its width.
_HEADINGS: Final = {"waiting": 8, "running": 8, "retrying": 8, "dead": 8, "oldest": 8, "workers": 8}
_UNKNOWN: Final = "?"


class Row(Struct, frozen=True, kw_only=True):
    """One handler; or, if `handler` is None, an entry that cannot be loaded. `kind` says why it is listed."""

    name: str
    kind: Kind
    found: CatalogEntry | None
    state: HandlerState | None

    @property
    def handler(self) -> Handler | None:
        """The declared handler, or None if it cannot be imported."""
        return None if self.found is None else self.found.handler


def make_rows(found: Sequence[CatalogEntry], states: Sequence[HandlerState] | None) -> list[Row]:
    """Return a row for each entry, then for each handler that only Redis knows; `states` is None without Redis."""
    by_name = {state.handler: state for state in states or ()}
    result = [
        Row(
            name=one.name,
            kind="named" if one.is_named else "installed",
            found=one,
            state=None if one.handler is None else by_name.pop(one.handler.name, None),
        )
        for one in found
    ]
    # An installed handler that is not named but has events in Redis was removed from CALLBACKS_HANDLERS.
    result = [_as_removed(row) if row.kind == "installed" and _has_leftovers(row.state) else row for row in result]
    others = (Row(name=name, kind="removed", found=None, state=state) for name, state in by_name.items())
    return result + [row for row in others if _has_leftovers(row.state)]


def to_json(rows: Sequence[Row]) -> bytes:
    """Return one JSON object per line."""
    return b"".join(msgspec.json.encode(_row_fields(row)) + b"\n" for row in rows)


def to_text(rows: Sequence[Row], *, problem: str = "") -> str:
    """Return the table. `problem`: why the state of the queues is unknown."""
    return "\n".join(_lines(rows, problem)) + "\n"


def _as_removed(row: Row) -> Row:
    return msgspec.structs.replace(row, kind="removed")


def _has_leftovers(state: HandlerState | None) -> bool:
    return state is not None and (state.queue.total > 0 or state.queue.dead > 0 or state.queue.jobs > 0)


def _lines(rows: Sequence[Row], problem: str) -> Iterator[str]:
    named = [row for row in rows if row.kind == "named" and row.handler is not None]
    if problem:
        yield f"The state of the queues is unknown: {problem}."
        yield ""
    if named:
        yield from _table(named)
        yield ""
        for row in named:
            yield from _describe(row)
    for row in rows:
        if row.kind == "named" and row.found is not None and row.handler is None:
            yield from _wrapped(f"✗ {row.name}: {_problem(row.found)}")
            yield "    Correct it or remove it from CALLBACKS_HANDLERS; until then no worker starts."
    removed = [row for row in rows if row.kind == "removed"]
    if removed:
        yield ""
        yield "Not named in CALLBACKS_HANDLERS here, but with events in Redis:"
        yield from _table(removed)
        for row in removed:
            yield from _advice(row)
    installed = [row for row in rows if row.kind == "installed"]
    if installed:
        yield ""
        yield "Installed, but not named in CALLBACKS_HANDLERS:"
        for row in installed:
            yield from _wrapped(f"  {row.name}  {_describe_source(row)}")


def _table(rows: Sequence[Row]) -> Iterator[str]:
    width = max(len(row.name) for row in rows if len(row.name) <= _NAME_COLUMNS or row is rows[0])
    width = max(7, min(width, _NAME_COLUMNS))
    heads = "".join(f"{head:>{columns}}" for head, columns in _HEADINGS.items())
    yield f"{'handler':{width}}{heads}  state"
    for row in rows:
        name = row.name
        if len(name) > width:
            yield name
            name = ""
        cells = "".join(f"{cell:>{n}}" for cell, n in zip(_cells(row.state), _HEADINGS.values(), strict=True))
        yield f"{name:{width}}{cells}  {state_text(row)}"


def _cells(state: HandlerState | None) -> tuple[str, ...]:
    if state is None:
        return (_UNKNOWN,) * len(_HEADINGS)
    queue = state.queue
    numbers = (queue.waiting, queue.running, queue.scheduled, queue.dead)
    return (*(f"{number:,}" for number in numbers), format_age(queue.oldest_at), f"{queue.workers:,}")


def state_text(row: Row) -> str:
    """Return the state of a handler in a few words, as `callbacks top` and the operators' page say it."""
    state = row.state
    if state is None:
        return "unknown"
    if state.pause_state is not None:
        return pause_text(state.pause_state)
    if row.kind == "removed":
        return "running elsewhere" if state.queue.workers else "removed"
    return "active" if state.queue.workers else "no worker"


def pause_text(pause_state: PauseState) -> str:
    """Return in a few words until when a handler is paused."""
    if pause_state.until is None:
        return "paused"
    return "paused, tries one" if pause_state.is_probing else f"paused, until {pause_state.until:%H:%M:%S}"


def _pause(state: HandlerState | None) -> Iterator[str]:
    if state is None or state.pause_state is None:
        return
    pause_state = state.pause_state
    if pause_state.until is None:
        yield f"    paused for {format_age(pause_state.since)}: `callbacks handlers resume {state.handler}` resumes it"
        return
    yield from _wrapped(
        f"    paused for {format_age(pause_state.since)}, until {rfc3339(pause_state.until)}: "
        f"{short(pause_state.reason or '-')}"
    )


def _last(state: HandlerState | None) -> Iterator[str]:
    """Yield when the handler last delivered, retried and gave up, as far as it did."""
    if state is None:
        return
    times = (
        ("delivered", state.last.delivered_at),
        ("failed and retried", state.last.retried_at),
        ("gave up", state.last.dead_at),
    )
    said = [f"{what} {format_age(time)} ago" for what, time in times if time is not None]
    if said:
        yield f"    last {', '.join(said)}"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _COLUMNS, subsequent_indent="    ", break_on_hyphens=False)


def format_age(time: datetime | None) -> str:
    """Return how long ago `time` is, in a few characters, or "-" if it is None."""
    if time is None:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - time).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _describe(row: Row) -> Iterator[str]:
    handler, found = row.handler, row.found
    if handler is None or found is None:
        return
    package = f" ({found.package})" if found.package else ""
    yield f"{row.name}: {handler.location}{package}"
    takes = ", ".join((filter_explanation.describe_kinds(handler), *filter_explanation.describe_filters(handler)))
    yield from _wrapped(f"    takes {takes}")
    calls = "in batches" if handler.batch else f"{handler.concurrency} at once" if handler.concurrency > 1 else "singly"
    times = "once" if handler.attempts == 1 else f"{handler.attempts} attempts"
    opened = "" if handler.lifespan is None else ", with a lifespan"
    yield f"    {times}, {handler.timeout_seconds:g} s each, {calls}{opened}"
    yield from _last(row.state)
    yield from _pause(row.state)


def _advice(row: Row) -> Iterator[str]:
    state = row.state
    if state is None:
        return
    yield from _pause(state)
    if state.queue.workers:
        workers = counted(state.queue.workers, "worker delivers", "workers deliver")
        yield f"    {workers} to it, so CALLBACKS_HANDLERS names it there."
    elif state.queue.total:
        source = f" --from {row.found.entry}" if row.found is not None else " --from MODULE"
        yield f"    `callbacks handlers drain {row.name}{source}` delivers what waits;"
        yield f"    `callbacks handlers purge {row.name}` discards it; or name it in CALLBACKS_HANDLERS again."
    if state.queue.dead:
        yield f"    `callbacks dead list {row.name}` shows its dead letters; they are dropped after"
        yield f"    CALLBACKS_FAILURES_RETENTION_DAYS ({retention.FAILURE_DAYS}) days."


def _describe_source(row: Row) -> str:
    if row.found is None:
        return ""
    what = row.handler.location if row.handler is not None else _problem(row.found)
    return what + (f" ({row.found.package})" if row.found.package else "")


def _problem(found: CatalogEntry) -> str:
    """Return the problem of an entry, on one line."""
    return " ".join(printable(found.problem).split())


def _row_fields(row: Row) -> dict[str, Any]:
    handler, found, state = row.handler, row.found, row.state
    fields: dict[str, Any] = {"name": row.name, "kind": row.kind}
    if found is not None:
        fields |= {"entry": found.entry, "package": found.package or None, "problem": found.problem or None}
    fields["declared"] = None if handler is None else _declaration_fields(handler)
    fields["queue"] = None if state is None else _queue_fields(state)
    return fields


def _declaration_fields(handler: Handler) -> dict[str, Any]:
    def ordered(values: frozenset[str] | None) -> list[str] | None:
        return None if values is None else sorted(values)

    return {
        "location": handler.location,
        "kinds": sorted(handler.kinds),
        "statuses": ordered(handler.statuses),
        "channels": ordered(handler.channels),
        "sources": ordered(handler.sources),
        "final": handler.final,
        "opt_outs": handler.opt_outs,
        "attempts": handler.attempts,
        "timeout_seconds": handler.timeout_seconds,
        "concurrency": handler.concurrency,
        "batch": handler.batch,
        "lifespan": handler.lifespan is not None,
    }


def _queue_fields(state: HandlerState) -> dict[str, Any]:
    queue, pause_state = state.queue, state.pause_state
    since_ms = None if state.subscription is None else state.subscription.since_ms
    return {
        "waiting": queue.waiting,
        "jobs": queue.jobs,
        "running": queue.running,
        "scheduled": queue.scheduled,
        "dead": queue.dead,
        "oldest_at": _time(queue.oldest_at),
        "next_attempt_at": _time(queue.next_attempt_at),
        "workers": queue.workers,
        "last_delivered_at": _time(state.last.delivered_at),
        "last_retried_at": _time(state.last.retried_at),
        "last_dead_at": _time(state.last.dead_at),
        "subscribed_since": _time(stored_time(since_ms)) if since_ms else None,
        "paused": None
        if pause_state is None
        else {
            "by": pause_state.by,
            "since": _time(pause_state.since),
            "until": _time(pause_state.until),
            "reason": pause_state.reason,
            "times": pause_state.times,
        },
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)
