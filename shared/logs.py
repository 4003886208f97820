"""The service's own log: one line per event, `action=…` first, times in UTC, on standard error.

Operators search for actions. The web process's are listed in `ingest.log`, the workers' here:

    worker_started      a worker process was started: queue= pid=
    worker_ended        a worker process ended: exit=; it is restarted, after a longer time while it keeps ending
    worker_start_failed
                        the system did not start a process: error=; it is retried
    worker_killed       a worker did not end in time after a stop, and was killed
    worker_misconfigured
                        a worker cannot work, because the configuration or its handler is wrong: error=; it is
                        restarted, at last once a minute. If no worker could work since the start, the supervisor stops
                        with exit code 2
    handler_import_failed
                        an entry of CALLBACKS_HANDLERS cannot be imported: error=; handlers= those of its last import,
                        whose events wait in their queues; other handlers are not affected
    redis_unavailable   Redis does not answer or cannot write now: error=; logged once by each process, and retried
    redis_available     Redis can be used again: seconds= it could not
    redis_clock_stepped
                        Redis's clock was set forward, or another primary replied: no lease ends for postponed_seconds=
    journal_not_created
                        the file for what handlers have finished cannot be made: error=; if the worker is killed, its
                        last events are delivered again
    journal_unreadable, journal_not_removed
                        the completion journal of a dead worker cannot be read, or not be removed; it is skipped
    job_requeued        a dead worker's job is in its queue again, or one that Redis restored in an earlier state
    job_claimed_elsewhere, job_run_stale
                        a job was given to another worker meanwhile; this run of it changes nothing more
    job_end_unconfirmed
                        the job is done, and Redis did not answer when that was written
    job_failed          a job failed as a whole: it is retried later and alone, from where it was; failures= so far
    job_sealed          a job waits for the key= with which it is sealed, which is not in CALLBACKS_SEAL_KEYS_FILE;
                        count= how many times jobs were tried since the last line
    job_replace_failed  a failed job could not be split or moved to the failures; it is retried later
    job_split           a job failed alone: each of its items is now a job of its own: items=
    job_moved_to_failures
                        a job failed for an hour: what was left of it is quarantined, or became dead letters: failures=
    job_unreadable      this release cannot read a job: error=; it goes back to its queue, to run alone
    callback_split      reading a callback raised cause=: it is read one record at a time
    field_unreadable    an optional field= of records= could not be read: it is None in their events, and stays in `raw`
    event_failed        an event could not be fanned out or settled: cause= what was raised, and where; it is
                        quarantined, or becomes a dead letter
    run_split           a round of deliver raised cause=: the handler is called with one event at a time
    req_uuid_reused     replies= had the req_uuid of other replies, and were delivered: an error of the sender
    execution_unreadable
                        Redis has something among a worker's runs that is not a run: member=; it is skipped
    event_retried       events= failed at their handler and are retried later: cause= what was raised, and where; error=
                        what it says, with numbers and texts masked
    event_dead          events= became dead letters: cause= and error= as above; `callbacks dead show` prints the whole
                        message and the traceback
    handler_paused      a handler asked for a pause, or the event tried after one failed: its queue waits seconds=;
                        error= the reason; by=memory: the handler fails, and Redis has no room for its retries (85 % of
                        maxmemory)
    handler_resumed     an event succeeded, and the queue continues: seconds= it was paused; by=memory: there is room
                        again
    fan_out_waiting     Redis is too full to expand callbacks (95 % of maxmemory): used=; logged once, and they wait
    fan_out_resumed     Redis has room again: used=
    handler_lifespan_failed
                        a handler's lifespan could not be opened: cause= what was raised, and where, error= what it
                        says; its process ends and is restarted, after a longer time each time, and its events wait
    handler_lifespan_ended
                        a handler's lifespan ended while it should have been open, for example because one of its tasks
                        failed: cause= error=; the process stops after the call in progress, and is restarted
    handler_lifespan_close_failed
                        a handler's lifespan could not be closed: cause= error=; no event is affected
    failures_dropped    failures of a list (quarantine, or dead:<handler>) were dropped: old= for their age
                        (CALLBACKS_FAILURES_RETENTION_DAYS), over= for lack of room (CALLBACKS_QUARANTINE_MAX_BYTES,
                        CALLBACKS_DEAD_LETTER_MAX_BYTES)
    retention_removed   messages and replies, files or entries older than days= were removed: store= items=
    retention_failed    nothing can be removed from a store: store= error=; logged once an hour, and tried each minute
    portions_reaped     events that no job needed any more were deleted, as somebody had deleted jobs by hand: portions=
    database_unavailable
                        the `sql` handler cannot use its database: database= error=; logged once, and its events wait
    database_available  the `sql` handler can use its database again: seconds= it was unavailable
    partial_line_removed
                        the `jsonl` handler removed the end of a line that a killed process left: file= bytes=
    gzip_failed         the `jsonl` handler could not compress its closed files, and retries: folder= error=
    forward_unsigned    the `forward` handler does not sign requests to a target, as configured: handler= target=
    traces_off          OpenTelemetry's variables ask for traces, which cannot be sent: missing= a package, or error=
    traces_trouble      OpenTelemetry reports a problem, such as a collector that does not answer: where= in its code;
                        logged once a minute, with the count
    ops_plain_http      at the start of `callbacks ops`: others on the network can read its password, because nothing
                        known adds HTTPS
    signed_in, signed_out
                        an operator signed in or out on the operators' page: operator= the name given, role=
    sign_in_refused     a sign-in failed: why= wrong_password or too_many_attempts, address=
    api_refused         a request to /api had a wrong token: why= wrong_token, address=
    live_feed_refused   Redis does not let the operators' page listen to live events: error=
    operator_action_started
                        an operator starts an action (replay, drop, retry, pause, resume, purge, drain, forget, or view:
                        see whole numbers): id= who= by= what= where= chosen= number=
    operator_action_ended
                        an action was done, stopped, or failed: id= who= what= where= state= done= failed= why=
    bulk_action_interrupted
                        Redis failed during an action: id= error=; the page offers to resume it
    bulk_action_failed  an action stopped on an unexpected error: id= count=, and the lines of code; the page offers to
                        resume it
    operator_action_not_logged
                        an action cannot be logged in Redis, which is full; it is still run, to make room
    listening           with CALLBACKS_LOG_FORMAT=json: what= listens at url=; else that is printed
    misconfigured       with CALLBACKS_LOG_FORMAT=json: a process does not start because of problem=; else it is printed
    heartbeat_failed    in any process: CALLBACKS_HEARTBEAT_FILE could not be written: file= error=; once a minute
    systemd_notify_failed
                        in any process: systemd could not be notified: error=; once a minute
    notice_sent         `callbacks ops` sent a notice: target= condition= subject= state= (started, resolved, flapping)
    notice_failed       a notice did not reach a target, and is sent again later: target= failures= in a row, error=
    notice_dropped      notices did not reach a target for a day: target= number=
    notices_not_stored  Redis did not store the states of conditions: error=; each `callbacks ops` sends until it does
    cell_unreadable     one of CALLBACKS_CELLS was not read because of a damaged value: cell= count= and the lines of
                        code
    status_unreadable   the notices of `callbacks ops` could not read the service's status because of a damaged value:
                        count= and the lines of code
    overdue_not_counted
                        `callbacks ops` could not count the overdue messages: error= of the database; count=
    setting_unknown     at the start of any process: variable= is not a setting but similar to one, which is named
    loop_failed         in any process: a background loop failed unexpectedly, and is restarted: loop= (see
                        shared/background.py) count= and the lines of code
    loop_recovered      the loop works again: failures= in a row
    uncaught            in any process: an exception that no code caught, in a where=thread, loop, destructor, or
                        main: the process ends
    fan_out             (DEBUG) a batch became events

No line contains a token, a person's text or a whole phone number (I9): nothing here formats events, and what a handler
raised is masked (`workers/deliver/error_text.py`).
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from shared import library_lines, log_lines, uncaught
from shared.line_limit import LineLimit
from shared.structured_log import ProcessorFormatter
from shared.token_mask import token_mask


def configure() -> None:
    """Write this process's log to standard error, as CALLBACKS_LOG_LEVEL and CALLBACKS_LOG_FORMAT say.

    It is called before the settings are read, so that their errors can be logged. Wrong values of these two are among
    them; until then the defaults are used.
    """
    level = logging.getLevelNamesMapping().get(os.environ.get("CALLBACKS_LOG_LEVEL", "").strip().upper(), logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(LineLimit())
    handler.setFormatter(log_lines.make_formatter(_form()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    library_lines.set_levels()
    logging.captureWarnings(capture=True)
    uncaught.install()


def is_json() -> bool:
    """Return whether `configure` was called in this process, and asked for JSON."""
    return _form() == "json" and any(isinstance(one.formatter, ProcessorFormatter) for one in logging.root.handlers)


def mask_tokens(secrets: Iterable[str]) -> Callable[[], None]:
    """Mask `secrets` in each line of this process, also in those of libraries. Return what undoes it.

    It applies to all handlers that exist, so another server's log has no token either if that runs the application.
    """
    mask = token_mask(secrets)
    undo = ExitStack()
    for handler in _all_handlers():
        own, limit = handler.formatter, LineLimit()
        undo.callback(handler.setFormatter, own)
        if isinstance(own, ProcessorFormatter):
            handler.setFormatter(log_lines.make_formatter(_form(), mask))
            continue
        handler.setFormatter(log_lines.MaskingFormatter(own, mask))
        handler.addFilter(limit)
        undo.callback(handler.removeFilter, limit)
    return undo.close


def _all_handlers() -> list[logging.Handler]:
    root = logging.getLogger()
    loggers = [root, *(logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]
    return list({id(handler): handler for logger in loggers for handler in logger.handlers}.values())


def _form() -> log_lines.LogFormat:
    given = os.environ.get("CALLBACKS_LOG_FORMAT", "").strip().lower()
    return "json" if given == "json" else "text"
