"""How the service's own log looks: one line per happening, `action=…` first, times in UTC, to standard error.

Operators search for actions. The web process's are listed in `ingest.log`, the workers' here:

    worker_started      a worker process was started: queue= pid=
    worker_ended        it ended: exit=; it is started again, ever more slowly while it keeps ending
    worker_start_failed  the system would start no process: error=; it is tried again
    worker_killed       it did not end in time after a stop
    worker_misconfigured
                        it cannot work: the configuration or its handler is wrong; it is started again, at the slowest
                        once a minute; where that is so of all from the start, everything stops with exit code 2
    handler_import_failed
                        an entry of CALLBACKS_HANDLERS cannot be imported: error=; handlers= those that it is known to
                        bring: their events go on to their queues, and wait there; others do not notice
    redis_unavailable
                              Redis does not answer or will not write now; it is tried again, once said
    redis_available          it does again, and what waited for it is written
    journal_not_created    no file for what handlers have finished: a killed worker's last events would come again
    journal_unreadable, journal_not_removed
                        what a dead worker has noted cannot be read, or its file not be removed; it is passed over
    job_requeued      a dead worker's job is in its queue again; or one that fell back with Redis to an earlier state
    job_claimed_elsewhere, job_run_stale
                        a job was given to another worker meanwhile; this run of it has changed nothing more
    job_end_unconfirmed     the work is done, and Redis did not answer to the note that it is
    job_failed          a job failed as a whole: it goes on from where it was, later and alone; failures= so far
    job_replace_failed  a failed job could not be split or moved to the failures; it is retried later
    job_split           a job failed alone: each of its items is a job of its own now: items=
    job_moved_to_failures       a job failed for an hour: what was left of it is in the quarantine, or dead: entries=
    job_unreadable      a job that this release cannot read
    callback_split      the reading of a callback raised cause=: it is read one record at a time
    event_failed        an event could not be fanned out or settled: cause= what was raised, and where; it is set aside
    run_split           a delivery's run raised cause=: its events are called one at a time
    req_uuid_reused     replies= came under the req_uuid of other replies, and were delivered: a fault of the sender
    execution_unreadable      Redis holds something among a worker's runs that is not one: member=; it is passed over
    event_retried       events failed at their handler and are tried again later: cause= what was raised, and where
    event_dead          events became dead letters: `callbacks dead show` has the message and the traceback
    handler_paused      a handler asked for a pause, or the event tried after one went wrong: its queue waits seconds=;
                        by=memory: it fails, and Redis has no room for its retries (85 % of maxmemory)
    handler_resumed     an event was done again, and the queue goes on: seconds= it was paused; by=memory: there is room
    fan_out_waiting     Redis is too full to expand callbacks (95 % of maxmemory): used=; they wait, once said
    fan_out_resumed     there is room again: used=
    handler_lifespan_failed
                        a handler's lifespan could not be opened: cause= what was raised, and where; its process ends
                        and is started again, ever more slowly, and its events wait
    handler_lifespan_ended
                        a handler's lifespan ended while it was to be open, as a task of its group failed for one:
                        cause=; the process stops after the call under way, and is started again
    handler_lifespan_close_failed
                        a handler's lifespan could not be left: cause=; nothing else is the worse for it
    failures_dropped   entries of a shelf (quarantine, or dead:<handler>) were dropped: old= for their age of 30
                        days, over= for want of room (CALLBACKS_QUARANTINE_MAX_BYTES, CALLBACKS_DEAD_LETTER_MAX_BYTES)
    database_unavailable       the `sql` handler's database cannot be used: database= error=; its events wait, once said
    database_available       it can again: seconds= it was away
    partial_line_removed   the `jsonl` handler cut off what a killed process had left of a line: file= bytes=
    gzip_failed          the `jsonl` handler could not pack its closed files, and tries again: folder= error=
    forward_unsigned    the `forward` handler signs nothing for a target: handler= target=; it was told to
    traces_off          OpenTelemetry's variables ask for traces, and there are none: missing= a package, or error=
    traces_trouble      OpenTelemetry complains, of a collector that does not answer for example: where= in its code;
                        told once a minute, with how many there were
    signed_in, signed_out
                        somebody did so on the operators' page: operator= the name given
    sign_in_refused     somebody could not: why= wrong_password or too_many_attempts, address=
    live_feed_refused        Redis does not let the operators' page listen to live events: error=
    operator_action_started
                        an operator starts an action (replay, drop, pause, resume, purge, drain): id= who= by= what=
                        where= chosen= number=
    operator_action_ended
                        it was done, stopped, or failed: id= who= what= where= state= done= failed= why=
    bulk_action_interrupted
                        Redis failed during an action: id= error=; the page offers to resume it
    bulk_action_failed     an action stopped on an unexpected error: id= count=, and the places in the code; the page
                        offers to resume it
    operator_action_not_logged
                        an action runs without a record, as Redis is full: dropping makes room: what= where=
    setting_unknown     at the start of any process: variable= is not a setting, as it is misspelt: what was meant
    loop_failed         in any process: a loop beside the main work failed with what nobody foresaw, and begins again:
                        loop= (see shared/background.py) count= and the places in the code
    loop_recovered      it goes well again: failures= in a row
    uncaught            in any process: an exception that nobody caught, in a where=thread, loop or destructor
    fan_out             (DEBUG) a batch became events

No line carries a token, a text or a whole number of a person (I9), so nothing here formats events.
"""

import logging
import os
import sys
import time
from typing import Final

from shared import uncaught

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"


def configure() -> None:
    """Send this process's log to standard error, at the level that CALLBACKS_LOG_LEVEL names (default INFO).

    Called before the settings are read, so that what is wrong with them can be logged; a level that is none is
    their error to report.
    """
    level = logging.getLevelNamesMapping().get(os.environ.get("CALLBACKS_LOG_LEVEL", ""), logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(_FORMAT)
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("callbacks").setLevel(level)
    uncaught.install()
