"""The web process's log: which actions there are, how often each is written, and how tokens stay out of it.

    action=started                 the process serves; level= what a 200 rests on
    action=web_process_restarted   one of several web processes ended with exit_code=, or was killed as it had not
                                   answered for minutes; another takes its place
    action=stopped                 everything in flight was answered
    action=durability              state= held or lost: what a 200 rests on has changed; failing= each failing check
    action=durability_memory       CALLBACKS_DURABILITY=memory: a 200 does not survive a crash of Redis
    action=durability_managed      CALLBACKS_DURABILITY=managed: a 200 is as durable as the provider of Redis promises
    action=durability_unverified   a check that this Redis does not let us make, and that is assumed to hold
    action=commit_failed           Redis did not take a batch: error=; it went to the spool, or was refused
    action=commit_retried          a batch was sent again, on a new connection
    action=spool                   state= drained, filling, full or failing: what happens to callbacks that Redis does
                                   not take has changed (see ingest/spool/report.py); why= or callbacks=
    action=spool_refused           neither Redis nor the spool took callbacks= since=; the gateway still sends the first
                                   of them for left_seconds=, then they are lost
    action=spool_record            a damaged record; its bytes were moved to the file moved_to=, or stay in the spool
                                   because of the error not_moved=
    action=spool_malformed         SQLite cannot read a spool; it was renamed to moved_to=, and a new one was made
    action=spool_taken_over        this process drains the spool of a dead process, with callbacks=
    action=spool_takeover_failed   the spool of a dead process cannot be opened: error=; it is tried again
    action=spool_not_drained       the process ends; callbacks= wait in the spool for the next start
    action=refused                 a response other than 200: status= problem= address=; sender=known if the request's
                                   token is valid, else unknown
    action=response_not_sent       the connection ended before the response was sent: status= why=
    action=connection_aborted      the client did not read its response: address=
    action=misdirected             a reply was posted to the URL for reports, or the reverse; it was accepted
    action=quarantined             an authentic callback that cannot be read: error=
    action=unexpected_error        an exception that no code expected, with its place in the code but without its
                                   message, which may quote a body (I9)

A sender can cause `commit_failed`, `spool_refused`, `refused`, `response_not_sent`, `connection_aborted`, `misdirected`
and `quarantined` with every request, so each kind of them is written once in INTERVAL_SECONDS, with count= how many
there were since the last line. The server's own warnings are limited in the same way.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS, RateLimitedLog
from shared.token_mask import token_mask
from shared.tracebacks import format_redacted

INTERVAL_SECONDS: Final = 10.0

logger: Final = logging.getLogger("callbacks.web")
limited = RateLimitedLog(logger, interval_seconds=INTERVAL_SECONDS)
_unexpected = RateLimitedLog(logger, interval_seconds=EXCEPTION_INTERVAL_SECONDS)

_Filter: TypeAlias = Callable[[logging.LogRecord], bool]

# The loggers whose lines can hold a path: uvicorn's access log, its errors, and ours.
_MASKED_LOGGERS: Final = ("uvicorn.access", "uvicorn.error", "uvicorn.asgi", "asyncio", logger.name)
_LIMITED_LOGGERS: Final = ("uvicorn.error", "asyncio")
# Two warnings of the server are of one kind if they begin the same: what it fills in comes later.
_KIND_CHARACTERS: Final = 32


def unexpected_error(where: str, exc: BaseException) -> None:
    """Log an exception that no code expected. `where` names the part of the service that caught it."""
    _unexpected.exception(f"action=unexpected_error where={where}", exc)


def refused(status: int, problem: str, *, sender: str, address: str, fields: str = "") -> None:
    """Log a response other than 200; `fields` says more about it, as `key=value`."""
    limited.warning(
        f"action=refused status={status} problem={problem} sender={sender}",
        " ".join(filter(None, (fields, f"address={address or 'none'}"))),
    )


class TokenMask(logging.Filter):
    """Masks tokens in whatever a record holds (see `shared.token_mask`)."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._mask_text = token_mask(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record in place and return True.

        The shape of its arguments stays, as formatters rely on it. Of an exception only types and places stay.
        """
        record.msg = self._mask(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._mask, record.args))
        elif record.args:
            record.args = {key: self._mask(value) for key, value in record.args.items()}
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            record.exc_text, record.exc_info = self._mask(format_redacted(record.exc_info[1])), None
        return True

    def _mask(self, value: Any) -> Any:
        if value is None or isinstance(value, int | float):
            return value
        text = str(value)
        masked = self._mask_text(text)
        return value if masked == text else masked


def limit_warnings(limited_log: RateLimitedLog) -> _Filter:
    """Return a filter that passes one warning or error of each kind per interval of `limited_log`.

    Information always passes: no sender can cause it, only the start and the end of the server do.
    """

    def is_passed(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        return limited_log.count((record.name, str(record.msg)[:_KIND_CHARACTERS])) > 0

    return is_passed


def install_filters(secrets: Iterable[str]) -> Callable[[], None]:
    """Mask `secrets` in every logger that may write a path, and limit the server's warnings. Return what undoes it."""
    mask = TokenMask(secrets)
    limit = limit_warnings(RateLimitedLog(logger, interval_seconds=INTERVAL_SECONDS))
    installed: list[tuple[str, logging.Filter | _Filter]] = [(name, limit) for name in _LIMITED_LOGGERS]
    installed += [(name, mask) for name in _MASKED_LOGGERS]
    for name, added in installed:
        logging.getLogger(name).addFilter(added)

    def remove() -> None:
        for name, added in installed:
            logging.getLogger(name).removeFilter(added)

    return remove
