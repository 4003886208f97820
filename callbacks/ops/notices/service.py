"""The notices of `callbacks ops`: one thread reads the service's state and decides, one for each target sends.

Of several processes only the one with the lease decides and sends; the states and the unsent notices are in Redis, so a
restart neither repeats nor forgets. While Redis is unavailable, or does not take the lease, each process decides by
itself, from what it knew, and writes that down when Redis is back.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import redis
from msgspec.structs import replace

from callbacks.ops.notices.condition_state import ConditionState, advance, select_notified
from callbacks.ops.notices.delivery import NoticeDelivery
from callbacks.ops.notices.notice import Notice
from callbacks.ops.notices.store import Document, LeaseLost, NoticeStore, UnsentNotice
from callbacks.ops.notices.targets import NoticeTarget
from callbacks.ops.status import alerts, service_status
from callbacks.ops.status.alerts import Alert
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.overdue import OverdueCounter
from shared import connections
from shared.background import Background
from shared.rate_limited_log import RateLimitedLog
from shared.settings import Settings
from shared.structured_log import get_logger
from shared.tracebacks import type_name

# A tenth of how long a condition must last, within these.
_MIN_ROUND_SECONDS: Final = 0.5
_MAX_ROUND_SECONDS: Final = 5.0
_DELIVERY_SECONDS: Final = 0.5
# An audit that does not balance is seen again before it counts: this is less than a condition must last.
_AUDIT_EVERY_SECONDS: Final = 10.0
# A target that is unavailable for long costs Redis some 100 KiB at most; the oldest are dropped.
_MAX_UNSENT: Final = 200
_END_SECONDS: Final = 5.0
_LOG_SECONDS: Final = 300.0

log = get_logger("callbacks.notices")


class NoticeService:
    """Watches the Redis in `settings` and sends notices to `targets`."""

    def __init__(
        self,
        settings: Settings,
        targets: Sequence[NoticeTarget],
        background: Background,
        *,
        overdue: OverdueCounter | None = None,
        now_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._overdue = overdue
        self._now_seconds = now_seconds
        self._client = connections.connect(settings.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
        self._store = NoticeStore(self._client)
        self._audit_cache = AuditCache(self._client, every_seconds=_AUDIT_EVERY_SECONDS)
        self._target_keys = tuple(target.key for target in targets)
        self._lock = threading.Lock()
        self._document = Document()
        self._is_sender = False
        # The document when Redis became unavailable: what differs from it is written down when Redis is back.
        self._last_stored: Document | None = None
        # Sent, and maybe still in the document of Redis.
        self._done: set[tuple[str, str]] = set()
        self._log = RateLimitedLog(log, interval_seconds=_LOG_SECONDS)
        self._ending = threading.Event()
        every_seconds = min(max(settings.notify_after_seconds / 10, _MIN_ROUND_SECONDS), _MAX_ROUND_SECONDS)
        self.deliveries = [
            NoticeDelivery(target, unsent=self._unsent_of, on_done=self._forget, now_seconds=now_seconds)
            for target in targets
        ]
        self._threads = [
            background.make_thread("notices", self.step, every_seconds=every_seconds, ending=self._ending),
            *(
                background.make_thread(
                    "notice_delivery", one.step, every_seconds=_DELIVERY_SECONDS, ending=self._ending
                )
                for one in self.deliveries
            ),
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop deciding, and let another process send. A message that is being sent may still arrive."""
        self._ending.set()
        self._threads[0].join(_END_SECONDS)
        with contextlib.suppress(redis.RedisError):  # it ends by itself
            self._store.release()
        self._client.close()

    def step(self) -> None:
        """Read the state of the service, and decide what is due."""
        found, is_complete = self._read_alerts()
        change = partial(
            self._advance, present=select_notified(found), is_complete=is_complete, now_seconds=self._now_seconds()
        )
        try:
            self._write_down()
            is_sender = self._store.hold_lease()
            document = self._store.update(change) if is_sender else self._store.read()
        except LeaseLost:
            return  # the next round has what the other process says
        except redis.RedisError as exc:
            self._log.warning("notices_not_stored", error=type(exc).__name__)
            self._decide_alone(change)
            return
        with self._lock:
            self._document, self._is_sender, self._last_stored = document, is_sender, None
            self._done &= {one.key for one in document.unsent}

    def _decide_alone(self, change: Callable[[Document], Document]) -> None:
        with self._lock:
            before = self._document
            if self._last_stored is None:
                self._last_stored = before
            if not self._is_sender:  # the process that is sends those
                before = Document(before.conditions)
            self._document, self._is_sender = change(before), True

    def _read_alerts(self) -> tuple[Sequence[Alert], bool]:
        try:
            status = service_status.read_status(self._client, self._settings, self._audit_cache)
            return alerts.find_alerts(service_status.with_overdue(status, self._overdue)), True
        except redis.RedisError as exc:
            return [alerts.redis_unavailable(type(exc).__name__)], False
        except Exception as exc:  # noqa: BLE001 # a damaged value may raise anything, and must not end the notices
            self._log.exception("status_unreadable", exc)
            return [alerts.status_unreadable(type_name(exc))], False

    def _advance(
        self, document: Document, *, present: dict[str, ConditionState], is_complete: bool, now_seconds: float
    ) -> Document:
        conditions, due = advance(
            document.conditions,
            present,
            now_seconds=now_seconds,
            after_seconds=self._settings.notify_after_seconds,
            is_complete=is_complete,
        )
        notices = [replace(notice, runbook_url=self._settings.runbook_url) for notice in due]
        added = [UnsentNotice(target, notice) for notice in notices for target in self._target_keys]
        return Document(conditions, self._still_unsent([*document.unsent, *added]))

    def _still_unsent(self, unsent: Sequence[UnsentNotice]) -> tuple[UnsentNotice, ...]:
        found: list[UnsentNotice] = []
        for target in self._target_keys:
            of_target = [one for one in unsent if one.target == target and one.key not in self._done]
            found += of_target[-_MAX_UNSENT:]
        return tuple(found)

    def _write_down(self) -> None:
        """Write to Redis what was decided while it was unavailable."""
        before, now = self._last_stored, self._document
        if before is None:
            return
        changed = {
            key: now.conditions.get(key)
            for key in {*before.conditions, *now.conditions}
            if now.conditions.get(key) != before.conditions.get(key)
        }
        known = {one.key for one in before.unsent}

        def merge(stored: Document) -> Document:
            conditions = stored.conditions | changed
            kept = {key: state for key, state in conditions.items() if state is not None}
            there = known | {one.key for one in stored.unsent}
            added = [one for one in now.unsent if one.key not in there]
            return Document(kept, self._still_unsent([*stored.unsent, *added]))

        self._store.update(merge, as_sender=False)
        with self._lock:
            self._last_stored = None

    def _unsent_of(self, target: str) -> Sequence[Notice]:
        with self._lock:
            if not self._is_sender:
                return []
            return [one.notice for one in self._document.unsent if one.target == target and one.key not in self._done]

    def _forget(self, target: str, notices: Sequence[Notice]) -> None:
        """Forget what was sent, in Redis too: at once, so that no other process sends it again."""
        with self._lock:
            self._done |= {UnsentNotice(target, notice).key for notice in notices}
        with contextlib.suppress(redis.RedisError, LeaseLost):  # the next round does it
            self._store.update(lambda stored: Document(stored.conditions, self._still_unsent(stored.unsent)))
