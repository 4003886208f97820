"""Retention: for how many days each store keeps what it holds, and what the removal of the rest last found.

    sql, jsonl, stream    what the built-in handlers have written; kept without end unless a setting says otherwise
    failures              quarantined callbacks and dead letters in Redis
    actions               the action log in Redis

CALLBACKS_RETENTION_DAYS is for all of them. It makes no store keep anything for longer than its own default. A store's
own setting overrides both.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from shared.settings import Settings

Store: TypeAlias = Literal["sql", "jsonl", "stream", "failures", "actions"]
# Those of handlers, which a thread of their supervisor maintains (`workers.retention`).
HandlerStore: TypeAlias = Literal["sql", "jsonl", "stream"]

# A century.
MAX_DAYS: Final = 36_525
FAILURE_DAYS: Final = 30
MAX_FAILURE_DAYS: Final = 366
MAX_ACTION_DAYS: Final = 366
SETTING: Final = "CALLBACKS_RETENTION_DAYS"

DAY_SECONDS: Final = 86_400
# Removal runs every minute. If something is older by this much, it has not run, fails, or is too slow.
_MAX_DELAY_SECONDS: Final = DAY_SECONDS
# A database's restart or upgrade takes less than this.
_MAX_FAILING_SECONDS: Final = 3600.0
# A state that nobody has written for so long is of a handler or of a machine that no longer exists.
_STATE_SECONDS: Final = 30 * DAY_SECONDS


def days_of(loaded: "Settings") -> dict[Store, int | None]:
    """Return for how many days each store keeps what it holds; None: without end."""
    general = loaded.retention_days
    return {
        "sql": loaded.sql_retention_days or general,
        "jsonl": loaded.jsonl_retention_days or general,
        "stream": loaded.stream_retention_days or general,
        "failures": failure_days(loaded),
        "actions": action_days(loaded),
    }


def failure_days(loaded: "Settings") -> int:
    """Return for how many days failures are kept."""
    return loaded.failures_retention_days or min(FAILURE_DAYS, loaded.retention_days or FAILURE_DAYS)


def action_days(loaded: "Settings") -> int:
    """Return for how many days the action log keeps an entry."""
    return loaded.actions_retention_days or min(MAX_ACTION_DAYS, loaded.retention_days or MAX_ACTION_DAYS)


class RetentionState(Struct, frozen=True, kw_only=True):
    """What the removal from one store last found, in ms since 1970, as a supervisor of its handler writes it to Redis.

    `store` is the handler's name, with the machine where the store is a folder: `jsonl@web-1`. `oldest_ms` is the time
    from which the oldest item's days are counted, None if there is none. `failing_since_ms` is 0 unless removal fails;
    then `error` says why, and `oldest_ms` is that of the last run that succeeded.
    """

    store: str
    days: int
    at_ms: int
    oldest_ms: int | None = None
    failing_since_ms: int = 0
    error: str = ""

    def age_seconds(self, now_seconds: float) -> float:
        """Return the age of the oldest item, 0 if there is none."""
        return 0.0 if self.oldest_ms is None else max(0.0, now_seconds - self.oldest_ms / 1000)

    def behind_seconds(self, now_seconds: float) -> float:
        """Return for how long the oldest item should have been removed; 0 within the time that removal may take."""
        late = self.age_seconds(now_seconds) - self.days * DAY_SECONDS
        return late if late > _MAX_DELAY_SECONDS else 0.0

    def is_failing(self, now_seconds: float) -> bool:
        """Return whether removal has failed for long."""
        return bool(self.failing_since_ms) and now_seconds - self.failing_since_ms / 1000 > _MAX_FAILING_SECONDS


def parse_states(replies: Mapping[bytes, bytes], *, now_seconds: float) -> tuple[RetentionState, ...]:
    """Return the states in Redis (`keys.RETENTION`), without outdated ones and what cannot be read."""
    found = []
    for text in replies.values():
        try:
            state = msgspec.json.decode(text, type=RetentionState)
        except msgspec.MsgspecError:
            continue
        if now_seconds - state.at_ms / 1000 < _STATE_SECONDS:
            found.append(state)
    return tuple(sorted(found, key=lambda state: state.store))
