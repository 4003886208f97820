"""When a condition is worth a notice: a state machine over what the alerts say, with the clock given.

A condition has to last before it counts as begun, and to be absent for twice as long before it counts as over; what
is shorter is ignored. One notice says that it began, one that it is over. A condition that returns within
QUIET_SECONDS of its last notice is only counted. After that time one notice says how often it returned.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from callbacks.ops.notices.notice import Notice, NoticeState
from callbacks.ops.status.alerts import Alert
from callbacks.ops.status.conditions import CONDITIONS, ConditionName
from callbacks.ops.status.quantities import format_duration
from shared.counted import counted

QUIET_SECONDS: Final = 900.0
# How much longer a condition has to be absent than it had to last.
_ABSENT_FACTOR: Final = 2.0
# Mail and chats take more; the page has the rest.
_MAX_TEXT: Final = 1000


class ConditionState(Struct, frozen=True, kw_only=True):
    """What is known of a condition; times are Unix seconds.

    `is_present`: the alerts had it at the last reading, unchanged `since_seconds`. `is_active`: it has begun and is not
    over. `started_at_seconds`, `ended_at_seconds`: of its last time. `is_announced`: a notice said that it began, and
    none that it is over. `noticed_at_seconds`: when the last notice of a beginning was made; `returns`: how often it
    began since then without one.
    """

    condition: ConditionName
    subject: str = ""
    text: str = ""
    is_present: bool = False
    since_seconds: float = 0.0
    is_active: bool = False
    started_at_seconds: float = 0.0
    ended_at_seconds: float = 0.0
    is_announced: bool = False
    noticed_at_seconds: float | None = None
    returns: int = 0

    @property
    def key(self) -> str:
        """Its name among all states."""
        return f"{self.condition} {self.subject}"


def select_notified(alerts: Iterable[Alert]) -> dict[str, ConditionState]:
    """Return the conditions among the alerts that are worth a notice, by key; several alerts of one are one text."""
    found: dict[str, ConditionState] = {}
    for alert in alerts:
        if alert.level != "bad" and not CONDITIONS[alert.condition].notifies_warnings:
            continue
        state = ConditionState(condition=alert.condition, subject=alert.subject, text=alert.text)
        if earlier := found.get(state.key):
            state = msgspec.structs.replace(state, text=f"{earlier.text}\n{state.text}")
        found[state.key] = state
    return found


def advance(
    states: Mapping[str, ConditionState],
    present: Mapping[str, ConditionState],
    *,
    now_seconds: float,
    after_seconds: float,
    is_complete: bool = True,
) -> tuple[dict[str, ConditionState], list[Notice]]:
    """Return the states after a reading at `now_seconds` that found `present`, and the notices that are due.

    If the reading is not complete, as while Redis is unavailable, nothing is known of the conditions it does not have.
    """
    after: dict[str, ConditionState] = {}
    notices: list[Notice] = []
    for key in dict.fromkeys((*states, *present)):
        before, seen = states.get(key), present.get(key)
        if before is not None and seen is None and not is_complete:
            after[key] = before
            continue
        state = _observe(before, seen, now_seconds=now_seconds, after_seconds=after_seconds)
        state, notice = _decide(state, now_seconds=now_seconds)
        if notice is not None:
            notices.append(notice)
        if not _is_forgotten(state, now_seconds=now_seconds):
            after[key] = state
    return after, notices


def _observe(
    before: ConditionState | None, seen: ConditionState | None, *, now_seconds: float, after_seconds: float
) -> ConditionState:
    """Return the state with what was seen, begun or over if that has lasted for long enough."""
    known = before or seen
    assert known is not None  # noqa: S101 # one of the two has the key
    is_present = seen is not None
    state = msgspec.structs.replace(known, text=known.text if seen is None else seen.text[:_MAX_TEXT])
    # A clock that was set back starts the time anew.
    if before is None or state.is_present != is_present or state.since_seconds > now_seconds:
        state = msgspec.structs.replace(state, is_present=is_present, since_seconds=now_seconds)
    lasted_seconds = now_seconds - state.since_seconds
    if is_present and not state.is_active and lasted_seconds >= after_seconds:
        return msgspec.structs.replace(
            state, is_active=True, started_at_seconds=state.since_seconds, returns=state.returns + 1
        )
    if not is_present and state.is_active and lasted_seconds >= _ABSENT_FACTOR * after_seconds:
        return msgspec.structs.replace(state, is_active=False, ended_at_seconds=state.since_seconds)
    return state


def _decide(state: ConditionState, *, now_seconds: float) -> tuple[ConditionState, Notice | None]:
    if state.is_announced:
        if state.is_active:
            return state, None
        return msgspec.structs.replace(state, is_announced=False), _notice(state, "resolved", now_seconds)
    if not state.returns or not _may_notify(state, now_seconds):
        return state, None
    notified = msgspec.structs.replace(state, is_announced=state.is_active, noticed_at_seconds=now_seconds, returns=0)
    is_first = state.noticed_at_seconds is None or (state.is_active and state.returns == 1)
    return notified, _notice(state, "started" if is_first else "flapping", now_seconds)


def _may_notify(state: ConditionState, now_seconds: float) -> bool:
    last = state.noticed_at_seconds
    return last is None or not 0 <= now_seconds - last < QUIET_SECONDS


def _is_forgotten(state: ConditionState, *, now_seconds: float) -> bool:
    is_over = not (state.is_present or state.is_active or state.is_announced or state.returns)
    return is_over and _may_notify(state, now_seconds)


def _notice(state: ConditionState, what: NoticeState, now_seconds: float) -> Notice:
    text = state.text
    if what == "resolved":
        text = f"Resolved. It was: {text}"
    elif what == "flapping":
        age = format_duration(now_seconds - (state.noticed_at_seconds or now_seconds))
        now = "it lasts" if state.is_active else "it is over"
        text = f"It returned {counted(state.returns, 'time')} in the last {age}; now {now}. It was: {text}"
    return Notice(
        condition=state.condition,
        subject=state.subject,
        state=what,
        text=text,
        at_seconds=now_seconds,
        started_at_seconds=state.started_at_seconds,
        ended_at_seconds=None if state.is_active else state.ended_at_seconds,
    )
