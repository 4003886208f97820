"""Sends what is unsent to one target, in order, and again after growing pauses: no target waits for another."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from callbacks.ops.notices.notice import Notice
from callbacks.ops.notices.targets import NoticeTarget
from shared.rate_limited_log import RateLimitedLog
from shared.structured_log import get_logger

FIRST_PAUSE_SECONDS: Final = 5.0
MAX_PAUSE_SECONDS: Final = 600.0
# What is older is dropped.
MAX_AGE_SECONDS: Final = 86_400.0
# More than this many at once are one message, if the target takes that.
_MAX_SINGLE: Final = 5
_LOG_SECONDS: Final = 300.0

log = get_logger("callbacks.notices")


class NoticeDelivery:
    """Sends to one target. `unsent` returns what it has to get; `on_done` is called with what was sent or dropped."""

    def __init__(
        self,
        target: NoticeTarget,
        *,
        unsent: Callable[[str], Sequence[Notice]],
        on_done: Callable[[str, Sequence[Notice]], None],
        now_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._unsent = unsent
        self._on_done = on_done
        self._now_seconds = now_seconds
        self._failures = 0
        self._next_at_seconds = 0.0
        self._log = RateLimitedLog(log, interval_seconds=_LOG_SECONDS)

    def step(self) -> None:
        """Send one message, if one is due."""
        now_seconds = self._now_seconds()
        # A clock that was set back delays nothing for longer than the longest pause.
        if now_seconds < self._next_at_seconds <= now_seconds + MAX_PAUSE_SECONDS:
            return
        unsent = self._unsent(self._target.key)
        old = [notice for notice in unsent if now_seconds - notice.at_seconds > MAX_AGE_SECONDS]
        if old:
            log.error("notice_dropped", target=self._target.name, number=len(old))
            self._on_done(self._target.key, old)
            unsent = [notice for notice in unsent if notice not in old]
        if unsent:
            self._send(unsent[: self._target.sender.max_notices] if len(unsent) > _MAX_SINGLE else unsent[:1])

    def _send(self, notices: Sequence[Notice]) -> None:
        problem = self._target.sender.send(notices)
        if problem:
            self._failures += 1
            pause_seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 16), MAX_PAUSE_SECONDS)
            self._next_at_seconds = self._now_seconds() + pause_seconds
            self._log.warning("notice_failed", {"target": self._target.name}, failures=self._failures, error=problem)
            return
        self._failures = 0
        for notice in notices:
            log.info(
                "notice_sent",
                target=self._target.name,
                condition=notice.condition,
                subject=notice.subject,
                state=notice.state,
            )
        self._on_done(self._target.key, notices)
