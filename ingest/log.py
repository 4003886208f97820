"""The web process's log: which actions there are, and how often each is written.

    started                 the process serves; durability= what a 200 rests on
    web_process_restarted   one of several web processes ended with exit_code=, or was killed as it had not
                            answered for minutes; another takes its place
    stopped                 everything in flight was answered
    durability              state= held or lost: what a 200 rests on has changed; failing= each failing check
    durability_memory       CALLBACKS_DURABILITY=memory: a 200 does not survive a crash of Redis
    durability_managed      CALLBACKS_DURABILITY=managed: a 200 is as durable as the provider of Redis promises
    durability_unverified   a check that this Redis does not let us make, and that is assumed to hold
    commit_failed           Redis did not take a batch: error=; it went to the spool, or was refused
    commit_retried          a batch was sent again, on a new connection
    spool                   state= drained, filling, full or failing: what happens to callbacks that Redis does
                            not take has changed (see ingest/spool/report.py); why= or callbacks=
    spool_refused           neither Redis nor the spool took callbacks= since=; the gateway still sends the first
                            of them for left_seconds=, then they are lost
    spool_record            a damaged record; its bytes were moved to the file moved_to=, or stay in the spool because
                            of the error not_moved=. Or the first of those that are sealed with a key that is not in
                            CALLBACKS_SEAL_KEYS_FILE: not_drained= names the key, and they stay
    spool_malformed         SQLite cannot read a spool; it was renamed to moved_to=, and a new one was made
    spool_taken_over        this process drains the spool of a dead process, with callbacks=
    spool_takeover_failed   the spool of a dead process cannot be opened: error=; it is tried again
    spool_not_drained       the process ends; callbacks= wait in the spool for the next start
    refused                 a response other than 200: status= problem= address=; sender=known if the request's
                            token is valid, else unknown
    response_not_sent       the connection ended before the response was sent: status= why=
    connection_aborted      the client did not read its response: address=
    misdirected             a reply was posted to the URL for reports, or the reverse; it was accepted
    quarantined             an authentic callback that cannot be read: error=
    unexpected_error        an exception that no code expected, with its place in the code but without its
                            message, which may quote a body (I9)

A sender can cause `commit_failed`, `spool_refused`, `refused`, `response_not_sent`, `connection_aborted`, `misdirected`
and `quarantined` with every request, so each kind of them is written once in INTERVAL_SECONDS, with count= how many
there were since the last line. So are the warnings of libraries (`shared/line_limit.py`).
"""

from collections.abc import Iterable
from typing import Final

from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS, RateLimitedLog
from shared.structured_log import get_logger

INTERVAL_SECONDS: Final = 10.0

logger: Final = get_logger("callbacks.web")
limited = RateLimitedLog(logger, interval_seconds=INTERVAL_SECONDS)
_unexpected = RateLimitedLog(logger, interval_seconds=EXCEPTION_INTERVAL_SECONDS)


def unexpected_error(where: str, exc: BaseException) -> None:
    """Log an exception that no code expected. `where` names the part of the service that caught it."""
    _unexpected.exception("unexpected_error", exc, where=where)


def refused(status: int, problem: str, *, sender: str, address: str, fields: Iterable[tuple[str, str]] = ()) -> None:
    """Log a response other than 200; `fields` says more about it."""
    kind = {"status": status, "problem": problem, "sender": sender}
    limited.warning("refused", kind, **dict(fields), address=address or "none")
