"""The text that `callbacks top` prints for a status, for a terminal of any width."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from callbacks.cli.terminal_text import short
from callbacks.ops.status import quantities
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.service_status import HandlerStatus, ServiceStatus
from callbacks.ops.status.snapshot import QueueStatus
from callbacks.ops.status.web_spools import WebSpool
from shared import queues
from shared.counted import counted
from shared.recent_rate import AcknowledgeTimes, Bucket

_BARS: Final = " ▁▂▃▄▅▆▇█"
_GOOD, _BAD, _FAINT, _WARN = "green", "bold red", "dim", "yellow"
# More would not fit on a screen; --json has all.
_MAX_HANDLERS_SHOWN: Final = 20


def render_status(now: ServiceStatus, *, columns: int) -> RenderableType:
    """Return `now` for a terminal of `columns` characters."""
    return Group(*_parts(now, columns))


def spool_lines(spools: Sequence[WebSpool]) -> list[str]:
    """Return a line for each web process that was asked while Redis is unavailable."""
    return [f"{spool.address}  {_spool_text(spool)}" for spool in spools]


def _spool_text(spool: WebSpool) -> str:
    if spool.problem:
        return f"unknown: {spool.problem}"
    stored = "are stored" if spool.keeps_callbacks else "are refused"
    size = f"{quantities.format_size(spool.size_bytes)} of {quantities.format_size(spool.limit_bytes)}"
    held = f"{counted(spool.callbacks, 'callback')}, {size}" if spool.limit_bytes else "no spool"
    full = "" if spool.full_in_seconds is None else f", full in {quantities.format_duration(spool.full_in_seconds)}"
    refused = f"; {spool.refused:,} refused" if spool.refused else ""
    return f"callbacks {stored}; spool {'/'.join(spool.states)}: {held}{full}{refused}"


def _parts(now: ServiceStatus, columns: int) -> Iterator[RenderableType]:
    yield Rule(f"callbacks  {now.at:%H:%M:%S} UTC", style=_FAINT)
    yield from _recent_rate(now.recent_rate, now.callbacks_per_second, columns)
    yield _acknowledge_times(now.acknowledged)
    yield Text()
    yield _queues(now)
    yield Text()
    if now.handlers:
        yield _handlers(now.handlers)
        yield Text()
    yield from _summary(now)


def _recent_rate(buckets: Sequence[Bucket], rate: float, columns: int) -> Iterator[Text]:
    width = max(1, min(columns, len(buckets)))
    peaks = _peaks([bucket.callbacks_per_second for bucket in buckets], width)
    most = max(peaks, default=0.0)
    yield Text(f"{rate:,.1f} callbacks/s in the last minute, peak {most:,.1f}/s in the last hour")
    # Rounded up, so that any rate above zero is visible.
    heights = [math.ceil(peak / (most or 1.0) * (len(_BARS) - 1)) for peak in peaks]
    yield Text("".join(_BARS[height] for height in heights), style="cyan")
    yield Text(f"{'an hour ago':<{max(0, width - 3)}}now" if width > len("an hour ago") + 3 else "", style=_FAINT)


def _peaks(rates: Sequence[float], width: int) -> list[float]:
    """Return the maximum of each of `width` parts, so that a peak of seconds stays visible."""
    edges = [len(rates) * index // width for index in range(width + 1)]
    return [max(rates[first:last]) for first, last in itertools.pairwise(edges)]


def _acknowledge_times(found: AcknowledgeTimes) -> Text:
    minutes = f"{found.window_seconds // 60} minutes"
    if found.p50_seconds is None or found.p99_seconds is None:
        return Text(f"acknowledged  nothing in the last {minutes}", style=_FAINT)
    return Text(
        f"acknowledged  p50 {_ms(found.p50_seconds)}  p99 {_ms(found.p99_seconds)}  "
        f"({found.answers:,} in the last {minutes})"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_FAINT)
    table.add_column(first, overflow="fold", min_width=12)
    for name in others:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    return table


def _queues(now: ServiceStatus) -> Table:
    table = _table("queue (jobs)", "waiting", "running", "scheduled", "oldest", "workers")
    for queue in now.queues[: _MAX_HANDLERS_SHOWN + 1]:
        table.add_row(
            Text(short(queue.name)),
            *(f"{number:,}" for number in (queue.waiting, queue.running, queue.scheduled)),
            quantities.format_duration(queue.oldest_seconds) if queue.waiting else "-",
            _workers(queue),
        )
    return table


def _workers(queue: QueueStatus) -> Text:
    is_missed = not queue.workers and (queue.waiting or queue.name == queues.EXPAND)
    return Text(f"{queue.workers:,}", style=_BAD if is_missed else "")


def _handlers(handlers: Sequence[HandlerStatus]) -> RenderableType:
    table = _table("handler (events)", "delivered", "waiting", "retrying", "dead", "state")
    for at in handlers[:_MAX_HANDLERS_SHOWN]:
        table.add_row(
            Text(short(at.handler)),
            f"{at.delivered:,}",
            f"{at.waiting:,}",
            Text(f"{at.retrying:,}", style=_WARN if at.retrying else ""),
            Text(f"{at.dead:,}", style=_BAD if at.dead else ""),
            _state(at),
        )
    times = Group(table, *_delivery_times(handlers[:_MAX_HANDLERS_SHOWN]))
    hidden = len(handlers) - _MAX_HANDLERS_SHOWN
    return Group(times, Text(counted(hidden, "more handler"), style=_FAINT)) if hidden > 0 else times


def _delivery_times(handlers: Sequence[HandlerStatus]) -> Iterator[Text]:
    """Yield how long events took from the receipt of their callback to their delivery, a line for each handler."""
    for at in handlers:
        if at.delivery_times is not None:
            p50, p95, p99 = map(_ms, msgspec.structs.astuple(at.delivery_times))
            yield Text(f"delivered in  p50 {p50}  p95 {p95}  p99 {p99}  ({short(at.handler)})", style=_FAINT)


def _state(at: HandlerStatus) -> Text:
    if at.state == "no worker":
        return Text("no worker", style=_BAD)
    if at.state == "failing":
        return Text(f"failing: {at.failed:,} of {at.tried:,} in 10 min", style=_BAD)
    return Text(at.state, style={"paused": _WARN, "removed": _FAINT}.get(at.state, ""))


def _summary(now: ServiceStatus) -> Iterator[RenderableType]:
    for sentence, style in _summary_lines(now):
        yield Text(sentence, style=style)


def _summary_lines(now: ServiceStatus) -> Iterator[tuple[str, str]]:
    """Yield the lines on Redis, processes, quarantine and audit, each with its style; problems are red."""
    limit = f" of {quantities.format_size(now.max_bytes)}" if now.max_bytes else ", no limit"
    if now.durable:
        yield f"redis         durable; {quantities.format_size(now.used_bytes)}{limit}", _GOOD
    else:
        yield f"redis         not durable; {quantities.format_size(now.used_bytes)}{limit}", _BAD
    for finding in now.findings:
        if not finding.ok:
            yield f"              {finding}", _BAD
    held = sum(spool.callbacks for spool in now.spools)
    states = ", ".join(sorted({spool.state for spool in now.spools}))
    bad = {spool.state for spool in now.spools} & {"filling", "full", "failing"}
    web = f"{now.web_processes:,} web, {counted(now.workers, 'worker')}"
    spools = f"; spools: {states}, {counted(held, 'callback')}" if now.spools else "; no web process reports its state"
    yield f"processes     {web}{spools}", _BAD if bad or not now.spools else ""
    if now.is_silent:
        yield f"received      nothing for {quantities.format_duration(now.silent_seconds)}", _BAD
    yield from _refused(now)
    if now.unknown_statuses:
        statuses = ", ".join(f"{short(status)} {number:,}" for status, number in now.unknown_statuses)
        yield f"statuses      not documented: {statuses}", ""
    yield f"quarantine    {now.quarantined:,}", _BAD if now.quarantined else ""
    yield _balance(now.balance)


def _refused(now: ServiceStatus) -> Iterator[tuple[str, str]]:
    """Yield what was refused in the last hour: a line for each reason of callbacks with a valid token."""
    known = [one for one in now.refused if one.sender == "known"]
    unknown = sum(one.hour for one in now.refused if one.sender == "unknown")
    strangers = f"{counted(unknown, 'request')} without a valid token"
    yield f"refused       {sum(one.hour for one in known):,} in the last hour; {strangers}", _BAD if known else ""
    for one in known:
        age = "" if one.address_seconds_ago is None else f" {quantities.format_age(one.address_seconds_ago)}"
        address = f", the last from {short(one.address)}{age}" if one.address else ""
        yield f"              {one.hour:,} with {one.status}: {one.title}{address}", _BAD
    left_seconds = now.gateway_gives_up_in_seconds
    if left_seconds is not None:
        sends = f"sends the first not stored for another {quantities.format_duration(left_seconds)}"
        yield f"              the gateway {sends if left_seconds > 0 else 'has given up on the first not stored'}", _BAD


def _balance(balance: Balance | None) -> tuple[str, str]:
    if balance is None:
        return "audit         not run while very many jobs wait", _FAINT
    age = f"({quantities.format_age(balance.age_seconds)})"
    if balance.balances:
        return f"audit         balances {age}", _GOOD
    if balance.moving:
        return "audit         changes too fast for an exact sum", _FAINT
    return f"audit         does not balance: {balance.difference:,} lost or counted twice {age}", _BAD
