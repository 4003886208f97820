"""Problems and warnings for the page *Now*, the worst first, so that nobody must read every number.

Each sentence says what is wrong, and what to do; the runbook, docs/operations.md, says more.
"""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from msgspec import Struct

from callbacks.ops.status.conditions import ConditionName
from callbacks.ops.status.quantities import format_duration, format_number, format_size
from callbacks.ops.status.service_status import HandlerPause, HandlerStatus, RefusalStatus, ServiceStatus
from shared import queues
from shared.counted import counted
from shared.memory import CALLBACKS_SHARE

AlertLevel: TypeAlias = Literal["bad", "warn"]

# Expanding takes milliseconds; a minute is a fifth of the gateway's retry interval.
_MAX_WAIT_SECONDS: Final = 60.0
# Before callbacks go to the spool there is time to act.
_NEARLY_FULL_SHARE: Final = 0.75
# A target that is unavailable for this long needs somebody.
_MAX_PAUSE_SECONDS: Final = 900.0
# Some attempts fail and succeed later. If more than this share does, something is wrong.
_FAILING_SHARE: Final = 0.1
# Strangers try a path now and then. From here on it may be the gateway, with an address or a token that was removed.
_MANY_UNKNOWN: Final = 20
# A sender that writes a field in a new way does so in each record.
_MANY_UNREADABLE: Final = 20
# A time that is not worth saying: the gateway's next attempt comes after five minutes.
_JUST_NOW_SECONDS: Final = 60.0
# A copy of these is in the quarantine, and the sender's next attempt may succeed.
_KEPT_STATUSES: Final = (400, 415)


class Alert(Struct, frozen=True):
    """A problem ("bad") or a warning ("warn") about a condition; `path` is the page that shows more.

    `subject` is the handler or queue of which it is, "" if it is of the service.
    """

    level: AlertLevel
    condition: ConditionName
    text: str
    path: str = ""
    subject: str = ""


def find_alerts(now: ServiceStatus) -> tuple[Alert, ...]:
    """Return all alerts, problems before warnings."""
    found = [
        *_damaged(now),
        *_audit(now),
        *_refused(now),
        *_redis(now),
        *_processes(now),
        *_silence(now),
        *_overdue(now),
        *_failing(now),
        *_retention(now),
        *_spools(now),
        *_waiting(now),
        *_handlers(now),
        *_failures(now),
        *_unreadable(now),
    ]
    return tuple(sorted(found, key=lambda alert: alert.level != "bad"))


def redis_unavailable(error: str) -> Alert:
    """Return the alert of a Redis that does not answer, with the type of the error: nothing else is known then."""
    return Alert(
        "bad",
        "redis_unavailable",
        f"Redis is unavailable ({error}). Callbacks go to the spools until it is back. Run `callbacks check`.",
    )


def status_unreadable(error: str) -> Alert:
    """Return the alert of a status that cannot be read, with the type of the error: nothing else is known then."""
    return Alert(
        "bad",
        "status_unreadable",
        f"The status of the service cannot be read ({error}): a value in Redis is damaged. No other condition is known "
        "until it is corrected. See action=status_unreadable in the log of `callbacks ops`.",
    )


def _damaged(now: ServiceStatus) -> Iterator[Alert]:
    for key in now.damaged:
        text = (
            f"A value of {key} in Redis is damaged: what rests on it is missing here. Correct or delete the value. "
            "See action=status_unreadable in the log of `callbacks ops`."
        )
        yield Alert("bad", "status_unreadable", text, subject=key)


def _audit(now: ServiceStatus) -> Iterator[Alert]:
    balance = now.balance
    if balance is not None and not balance.balances and not balance.moving:
        lost = counted(balance.difference, "record or event is", "records or events are")
        yield Alert(
            "bad",
            "audit_unbalanced",
            f"The audit does not balance: {lost} lost or counted twice. Run `callbacks audit`.",
        )


def _refused(now: ServiceStatus) -> Iterator[Alert]:
    recent = [one for one in now.refused if one.ten_minutes]
    for one in recent:
        if one.sender == "known" or one.reason == "internal-error":
            level: AlertLevel = "warn" if one.status in _KEPT_STATUSES else "bad"
            refused = counted(one.ten_minutes, "callback was", "callbacks were")
            yield Alert(
                level,
                "callbacks_refused",
                f"{refused} refused with {one.status} in the last 10 minutes{_where(one)}: {one.title}. "
                f"{one.remedy}{_time_left(one, now)}",
            )
    unknown = [one for one in recent if one.sender == "unknown" and one.reason in ("address-not-allowed", "not-found")]
    number = sum(one.ten_minutes for one in unknown)
    if number >= _MANY_UNKNOWN:
        most = max(unknown, key=lambda one: one.ten_minutes)
        accepted = counted(now.accepted_ten_minutes, "callback was", "callbacks were")
        yield Alert(
            "bad" if number > now.accepted_ten_minutes else "warn",
            "senders_unknown",
            f"{format_number(number)} requests without a valid token were refused in the last 10 minutes, and "
            f"{accepted} accepted. Most: {most.title} ({most.status}){_where(most)}. {most.remedy}",
        )


def _where(refusal: RefusalStatus) -> str:
    return f", the last from {refusal.address}{_age(refusal)}" if refusal.address else ""


def _age(refusal: RefusalStatus) -> str:
    """Return how long ago the last request was refused, unless that was just now."""
    seconds_ago = refusal.address_seconds_ago or 0.0
    return f" {format_duration(seconds_ago)} ago" if seconds_ago >= _JUST_NOW_SECONDS else ""


def _unreadable(now: ServiceStatus) -> Iterator[Alert]:
    for field, number in now.unreadable:
        if number >= _MANY_UNREADABLE:
            yield Alert(
                "warn",
                "fields_unreadable",
                f"{format_number(number)} reports or replies without a readable {field} in the last hour. Their events "
                "are delivered without it; `raw` has it as received. Ask the gateway what it changed.",
            )


def _time_left(refusal: RefusalStatus, now: ServiceStatus) -> str:
    """Return for how long the gateway still sends what nothing could keep."""
    left_seconds = now.gateway_gives_up_in_seconds
    if refusal.reason != "store-unavailable" or left_seconds is None:
        return ""
    if left_seconds <= 0:
        return " The gateway has given up on the first of them."
    return f" The gateway sends the first of them for another {format_duration(left_seconds)}."


def _redis(now: ServiceStatus) -> Iterator[Alert]:
    for finding in now.findings:
        # Memory has an alert of its own, with the number.
        if not finding.ok and finding.name != "memory":
            yield Alert("bad", "durability_lost", f"Redis is not durable: {finding}.")
    share = now.used_bytes / now.max_bytes if now.max_bytes else 0.0
    used = f"Redis uses {share:.0%} of the {format_size(now.max_bytes)} that it may"
    if share >= CALLBACKS_SHARE:
        text = (
            f"{used}: callbacks go to the spools. Start more workers, or drop dead letters and quarantined callbacks."
        )
        yield Alert("bad", "redis_memory", text)
    elif share >= _NEARLY_FULL_SHARE:
        yield Alert("warn", "redis_memory", f"{used}. From {CALLBACKS_SHARE:.0%} on callbacks go to the spools.")


def _processes(now: ServiceStatus) -> Iterator[Alert]:
    if not now.web_processes:
        text = "No web process has reported for 15 s: callbacks may not be received. Start `callbacks web`."
        yield Alert("bad", "no_web_process", text)
    subscribed = {queues.delivery_queue(handler.handler) for handler in now.handlers if handler.is_subscribed}
    for queue in now.queues:
        jobs = queue.waiting + queue.scheduled
        is_needed = jobs or queue.name == queues.EXPAND or queue.name in subscribed
        if queue.workers or not is_needed or queue.paused_by == "operator":
            continue
        wait = f", and {counted(jobs, 'job waits', 'jobs wait')}" if jobs else ""
        text = f"No worker serves the queue {queue.name}{wait}. Start one."
        yield Alert("bad", "no_worker", text, subject=queue.name)


def _silence(now: ServiceStatus) -> Iterator[Alert]:
    if now.is_silent:
        silence = format_duration(now.silent_seconds)
        text = f"No callback was received for {silence}. Is anything sent, and does the gateway reach this service?"
        yield Alert("warn", "nothing_received", text)


def _overdue(now: ServiceStatus) -> Iterator[Alert]:
    overdue = now.overdue
    if overdue is not None and overdue.is_warning:
        late = f"{format_number(overdue.recent_overdue)} of {counted(overdue.recent_messages, 'message')}"
        yield Alert(
            "warn",
            "messages_overdue",
            f"{late} of the last week ({overdue.recent_share:.1%}) have no final status "
            f"{format_duration(overdue.after_seconds)} after their first report. Ask the gateway.",
            "/messages?overdue=yes",
        )


def _failing(now: ServiceStatus) -> Iterator[Alert]:
    for one in now.failing:
        yield Alert(
            "bad",
            "loop_failing",
            f"In the process {one.process} {one.loop.replace('_', ' ')} keeps failing ({one.error}). "
            "See action=loop_failed in its log.",
        )


def _retention(now: ServiceStatus) -> Iterator[Alert]:
    now_seconds = now.at.timestamp()
    for one in now.retention:
        error = f" ({one.error})" if one.error else ""
        if one.behind_seconds(now_seconds):
            age = format_duration(one.age_seconds(now_seconds))
            # Without an error nothing was logged: the removal has not run, or is too slow.
            advice = "See action=retention_failed in the log." if one.error else "Is a worker of this handler running?"
            yield Alert(
                "bad",
                "retention_behind",
                f"{one.store} keeps data for longer than it should: the oldest is {age} old, and "
                f"{counted(one.days, 'day is', 'days are')} allowed{error}. {advice}",
                subject=one.store,
            )
        elif one.is_failing(now_seconds):
            yield Alert(
                "warn",
                "retention_behind",
                f"Old data of {one.store} cannot be removed{error}. It is retried each minute.",
                subject=one.store,
            )


def _spools(now: ServiceStatus) -> Iterator[Alert]:
    for state, level, condition, text in _SPOOL_STATES:
        number = sum(spool.state == state for spool in now.spools)
        if number:
            yield Alert(level, condition, f"{counted(number, 'spool')} {text}")


_SPOOL_STATES: Final[tuple[tuple[str, AlertLevel, ConditionName, str], ...]] = (
    ("failing", "bad", "spool_failing", "cannot be written. Check the disk."),
    ("full", "bad", "spool_full", "full. Callbacks are refused while Redis is unavailable."),
    ("filling", "warn", "spool_filling", "holding callbacks until Redis accepts them."),
)


def _waiting(now: ServiceStatus) -> Iterator[Alert]:
    for queue in now.queues:
        if queue.oldest_seconds > _MAX_WAIT_SECONDS and not queue.paused_by:
            age = format_duration(queue.oldest_seconds)
            text = f"The oldest job in the queue {queue.name} has waited for {age}."
            yield Alert("warn", "backlog_age", text, subject=queue.name)


def _handlers(now: ServiceStatus) -> Iterator[Alert]:
    for handler in now.handlers:
        if handler.pause is not None:
            yield _paused(handler, handler.pause)
        elif handler.failed and handler.state != "removed":
            path = f"/retries?handler={quote(handler.handler, safe='')}"
            share = f"{format_number(handler.failed)} of {format_number(handler.tried)} attempts"
            if handler.is_failing:
                text = f"The handler {handler.handler} fails: {share} in the last 10 minutes."
                yield Alert("bad", "handler_failing", text, path, handler.handler)
            elif handler.failed > _FAILING_SHARE * handler.tried:
                text = f"The handler {handler.handler} failed at {share} in the last 10 minutes."
                yield Alert("warn", "handler_retrying", text, path, handler.handler)


def _paused(handler: HandlerStatus, pause: HandlerPause) -> Alert:
    waiting = counted(handler.waiting, "event")
    since = format_duration(pause.seconds)
    if pause.by == "operator":
        text = f"The handler {handler.handler} was paused by an operator {since} ago; {waiting} waiting."
        return Alert("warn", "handler_paused", text, subject=handler.handler)
    why = "it fails, and Redis is nearly full" if pause.by == "memory" else pause.reason or "its target is unavailable"
    next_try = f" It tries one event in {format_duration(pause.probe_in_seconds)}." if pause.probe_in_seconds else ""
    return Alert(
        "bad" if pause.seconds > _MAX_PAUSE_SECONDS else "warn",
        "handler_paused",
        f"The handler {handler.handler} paused itself {since} ago ({why}); {waiting} waiting.{next_try}",
        subject=handler.handler,
    )


def _failures(now: ServiceStatus) -> Iterator[Alert]:
    """Yield what failed in the last hour. What is older is a number on the page, which nobody has to act on now."""
    for handler in now.handlers:
        if handler.recent_dead:
            number = counted(handler.recent_dead, "dead letter")
            text = f"{number} of the handler {handler.handler} in the last hour. Replay or drop."
            path = f"/dead-letters/{quote(handler.handler, safe='')}"
            yield Alert("warn", "dead_letters", text, path, handler.handler)
    if now.recent_quarantined:
        entries = f"{format_number(now.recent_quarantined)} quarantined in the last hour"
        yield Alert("warn", "callbacks_quarantined", f"{entries}. Read, then replay or drop.", "/quarantine")
