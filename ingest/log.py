"""The web process's log: which actions there are, how often they are told, and how tokens stay out of it.

    action=started                 the process serves; level= what a 200 rests on
    action=stopped                 everything in flight was answered
    action=durability              held or lost: what a 200 rests on changed, with each failing check
    action=durability_memory       CALLBACKS_DURABILITY=memory: a 200 does not survive a crash of Redis
    action=durability_unverified       a check that this Redis does not let us make, and that is believed
    action=commit_failed           Redis did not take a batch: error=; it went to the spool, or was refused
    action=commit_retried         a batch was sent again, on a fresh connection
    action=spool                   drained, filling, full or failing: what becomes of callbacks that Redis does not take
                                   changed (see ingest/spool/report.py); why= or callbacks=
    action=spool_refused           neither Redis nor the spool took callbacks= since=; the gateway still sends the first
                                   of them for left_seconds=, then they are lost
    action=spool_record            a damaged record, kept raw in the file moved_to=, or left where it is: not_moved=
    action=spool_malformed         SQLite cannot read a spool; it is kept as moved_to=, and a new one is begun
    action=spool_taken_over             the spool of a dead process, taken over with callbacks=
    action=spool_takeover_failed         one that cannot be opened; it is tried again
    action=spool_not_drained              callbacks= wait in the spool for the next start
    action=refused                 an answer that is not 200: status= problem=
    action=response_not_sent              an answer that nobody was there to hear: the connection ended before it
    action=connection_aborted                 a connection on which what was answered was not read: address=
    action=misdirected             a reply came where status callbacks belong, or the other way round; it was kept
    action=quarantined             an authentic callback that cannot be read: error=
    action=unexpected_error        an unexpected exception: the place in the code, without its message, which may
                                   quote a body (I9)

`commit_failed`, `spool_refused`, `refused`, `unanswered`, `aborted` and `quarantined` can happen with every request, so
each kind of them is told once in SELDOM_SECONDS, with how many there were since. The server's own complaints are
passed on as rarely.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import quote

from shared.tracebacks import format_redacted

logger: Final = logging.getLogger("callbacks.web")

LOG_INTERVAL_SECONDS: Final = 10.0

_MASK: Final = "***"
_PATH: Final = re.compile(r"(/callbacks/+)[^/\s?]+", re.IGNORECASE)
# Whose lines can hold a path: uvicorn's access log, its errors, and ours.
_LOGGERS: Final = ("uvicorn.access", "uvicorn.error", "uvicorn.asgi", "asyncio", logger.name)
_SERVERS: Final = ("uvicorn.error", "asyncio")


class RateLimitedLog:
    """Tells of what may happen thousands of times a second, a line for each kind in `every_seconds` at most.

    The kinds must be few: they are remembered for ever.
    """

    def __init__(
        self, *, every_seconds: float = LOG_INTERVAL_SECONDS, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_seconds = every_seconds
        self._now_seconds = now_seconds
        self._kinds: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, about: str) -> None:
        """Say that `kind` (`action=… key=value …`) happened; `about` describes only the one that is told."""
        now_seconds = self._now_seconds()
        next_seconds, untold = self._kinds.get(kind, (now_seconds, 0))
        if now_seconds < next_seconds:
            self._kinds[kind] = (next_seconds, untold + 1)
            return
        self._kinds[kind] = (now_seconds + self._every_seconds, 0)
        logger.warning("%s count=%d %s", kind, untold + 1, about)


def unexpected_error(where: str, exc: BaseException) -> None:
    """Log an exception that nobody expected."""
    logger.error("action=unexpected_error where=%s %s", where, format_redacted(exc))


class TokenMask(logging.Filter):
    """Masks the token in whatever a record holds: known secrets anywhere, and any path segment after /callbacks/."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        spellings = {spelling for secret in secrets for spelling in (secret, quote(secret), quote(secret, safe=""))}
        self._secrets = sorted(spellings, key=len, reverse=True)

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; the shape of its arguments stays, as formatters rely on it.

        Of an exception stay its types and places.
        """
        record.msg = self._masked(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._masked, record.args))
        elif record.args:
            record.args = {key: self._masked(value) for key, value in record.args.items()}
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            record.exc_text, record.exc_info = self._masked(format_redacted(record.exc_info[1])), None
        return True

    def _masked(self, value: Any) -> Any:
        if value is None or isinstance(value, int | float):
            return value
        text = str(value)
        masked = _PATH.sub(rf"\1{_MASK}", text)
        for secret in self._secrets:
            masked = masked.replace(secret, _MASK)
        return value if masked == text else masked


class RateLimitFilter(logging.Filter):
    """Passes a warning or an error once in `every_seconds`, as senders can provoke many of the same.

    They are the same if they begin the same: what the server fills in comes later. What no sender provokes, the
    start and the end of the server, is information.
    """

    _BEGINNING: Final = 32
    _REMEMBERED: Final = 100

    def __init__(
        self, *, every_seconds: float = LOG_INTERVAL_SECONDS, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._every_seconds = every_seconds
        self._now_seconds = now_seconds
        self._next_seconds: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is passed on."""
        if record.levelno < logging.WARNING:
            return True
        kind, now_seconds = (record.name, str(record.msg)[: self._BEGINNING]), self._now_seconds()
        if now_seconds < self._next_seconds.get(kind, now_seconds):
            return False
        if len(self._next_seconds) >= self._REMEMBERED:
            self._next_seconds.clear()
        self._next_seconds[kind] = now_seconds + self._every_seconds
        return True


def install_filters(secrets: Iterable[str]) -> Callable[[], None]:
    """Put the mask on every logger whose lines can hold a path, and bound the server's; gives what undoes both."""
    token_mask, rarely = TokenMask(secrets), RateLimitFilter()
    put: list[tuple[str, logging.Filter]] = [(name, rarely) for name in _SERVERS]
    put += [(name, token_mask) for name in _LOGGERS]
    for name, added in put:
        logging.getLogger(name).addFilter(added)

    def unmask() -> None:
        for name, added in put:
            logging.getLogger(name).removeFilter(added)

    return unmask
