"""Every Redis key of ours: its name, its type, who owns it, how long it lives. RQ's own keys are RQ's.

    key                        type    owner     lifetime
    cb:s:<digest>              string  expand    CALLBACKS_DEDUPE_SECONDS; the mark of an event or a request seen
    cb:coalesced:<job id>      list    workers   while the job runs: ids of the jobs it took along, oldest first
    cb:counts                  hash    all       for ever: the counters that the audit adds up, one field each
    cb:metrics                 hash    all       kept: what processes counted for /metrics; shared/metrics_push.py
    cb:metrics:processes       zset    web       DAY_SECONDS: processes that tell their state, by the time of the last
    cb:metrics:<process>       hash    all       DAY_SECONDS: the number of its last telling, and its state
    cb:recent-rate            hash    web       an hour and a minute: what came in lately, see shared/recent_rate.py
    cb:live                    hash    expand    10 s: what of this second has been published, see shared/live.py
    cb:quarantine              zset    all       ids of quarantined callbacks by time; see workers/failures/retention.py
    cb:quarantine:<id>         hash    all       until dropped or replayed; else FAILURE_EXPIRY_SECONDS
    cb:quarantine:bytes        string  all       while there are entries: the sum of their fields `bytes`
    cb:dead:<handler>          zset    deliver   ids of a handler's dead letters by time; likewise
    cb:dead:<handler>:<id>     hash    deliver   until dropped or replayed; else FAILURE_EXPIRY_SECONDS
    cb:dead:<handler>:bytes    string  deliver   as above
    cb:paused:<handler>        hash    deliver   PAUSE_KEPT_SECONDS after its end; see workers/runtime/pause.py
    cb:subscriptions           hash    expand    for ever: see workers/expand/subscriptions.py
    cb:filters                 hash    expand    for ever: each entry's filters, see workers/expand/known_handlers.py
    cb:revoked-session:<session>    string  ops       as long as the session would have lasted, twelve hours at most
    cb:backfilled:<handler>:<2 hex digits>
                               set     backfill  BACKFILLED_SECONDS after the last backfill: the events it has enqueued
    cb:actions                 zset    ops    ids of what operators did, by time: the newest ACTIONS_KEPT
    cb:actions:<id>            hash    ops    ACTION_SECONDS, or while it is one of those; workers/admin/action_log.py
    cb:actions:<id>:work       hash    ops    DAY_SECONDS: what is left of it to do; workers/admin/bulk_action.py
    cb:actions:<id>:runner     string  ops    RUNNER_SECONDS after the last sign of life of who carries it out

All names begin with `cb:`. The marks are by far the most numerous keys, so theirs is the shortest prefix.
A job's hash (`rq:job:<id>`, RQ's) carries seven fields of ours: `items`, how many records or events its data hold,
`progress`, how many of them are settled (see `shared.progress`), `settlement`, the name of the last one, `deaths`, how
many workers died in the midst of it, `failures`, how many of its runs failed since it last made progress, `finished`,
what its handler had done by then beyond what is settled, and `isolated`, where it runs with no other job, as a worker
could not read it or a run that had it failed. A run's hash (`rq:execution:<job id>:<run id>`, RQ's) carries one:
`stopping`, where its worker was asked to stop, so that its end is no death.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry

RecordOutcome: TypeAlias = Literal["received", "unique", "duplicate", "quarantined", "dropped"]
DeliveryOutcome: TypeAlias = Literal["queued", "delivered", "filtered", "dead", "dropped"]
CountedKind: TypeAlias = Literal["report", "reply", "unknown"]

SEEN_PREFIX: Final = "cb:s:"
COALESCED_PREFIX: Final = "cb:coalesced:"
COUNTS: Final = "cb:counts"
QUARANTINE: Final = "cb:quarantine"
SUBSCRIPTIONS: Final = "cb:subscriptions"
FILTERS: Final = "cb:filters"
ACTIONS: Final = "cb:actions"
METRICS: Final = "cb:metrics"
METRICS_PROCESSES: Final = "cb:metrics:processes"
RECENT_RATE: Final = "cb:recent-rate"
LIVE: Final = "cb:live"

# The counter of replies that came under the `req_uuid` of another one, and were delivered.
REUSED_REQ_UUIDS: Final = "reply.reused_req_uuid"

DAY_SECONDS: Final = 86_400
# What is set aside is dropped, and counted as dropped, at this age.
FAILURE_SECONDS: Final = 30 * DAY_SECONDS
# Should nobody be there to drop it for another month, Redis lets it go by itself, and it stays counted as kept.
FAILURE_EXPIRY_SECONDS: Final = 2 * FAILURE_SECONDS
# A backfill that was broken off goes on where it was if it is run again within this time.
BACKFILLED_SECONDS: Final = 30 * DAY_SECONDS
# A pause whose time is over ends with the first event that is tried. If none comes for so long, or the handler is gone,
# it ends by itself: the next trouble is a new one.
PAUSE_KEPT_SECONDS: Final = DAY_SECONDS
# Some MiB of what operators did, or of the last year.
ACTIONS_KEPT: Final = 5000
ACTION_SECONDS: Final = 366 * DAY_SECONDS
# Whoever has not been heard of for so long has ended, and another may go on.
RUNNER_SECONDS: Final = 15
# What Redis spends on an entry beside what is written into it: its keys, its place in the index, its lifetime.
# Measured on Redis 7.0: 315 bytes if all its fields are shorter than 65 bytes, else 720 to 780.
# The scripts have this number in workers/runtime/settlement.lua.
FAILURE_OVERHEAD_BYTES: Final = 768

RQ_QUEUES: Final = "rq:queues"


def seen(digest: str) -> str:
    """Name the mark of an event or a request that was seen."""
    return SEEN_PREFIX + digest


def coalesced(job_id: str) -> str:
    """Name the list of the jobs that a running job took along."""
    return COALESCED_PREFIX + job_id


def quarantined(failure_id: str) -> str:
    """Name one quarantined callback."""
    return failure(QUARANTINE, failure_id)


def dead(handler: str) -> str:
    """Name the index of a handler's dead letters."""
    return f"cb:dead:{handler}"


def dead_letter(handler: str, event_id: str) -> str:
    """Name one dead letter of a handler."""
    return failure(dead(handler), event_id)


def backfilled(handler: str) -> str:
    """Name what the keys of the events that `callbacks backfill` gave to a handler begin with."""
    return f"cb:backfilled:{handler}:"


def paused(handler: str) -> str:
    """Name the pause of a handler: there is one as long as the key is there."""
    return f"cb:paused:{handler}"


def revoked_session(session: str) -> str:
    """Name the note that a session of the operators' page has ended before its time."""
    return f"cb:revoked-session:{session}"


def failures_bytes(index: str) -> str:
    """Name the sum of the bytes of the entries in an index, QUARANTINE or `dead(handler)`."""
    return f"{index}:bytes"


def failure(index: str, failure_id: str) -> str:
    """Name one entry of an index, as `quarantined` and `dead_letter` do."""
    return f"{index}:{failure_id}"


def action(action_id: str) -> str:
    """Name what is noted of one act of an operator."""
    return failure(ACTIONS, action_id)


def action_work(action_id: str) -> str:
    """Name what is left to do of an act."""
    return f"{action(action_id)}:work"


def action_runner(action_id: str) -> str:
    """Name the lease of who carries an act out."""
    return f"{action(action_id)}:runner"


def metrics_of(process: str) -> str:
    """Name what a process told last of its figures."""
    return f"{METRICS}:{process}"


def live_channel(database: int) -> str:
    """Name the channel of a database's live events: no key, but named as one."""
    return f"{LIVE}:{database}"


def counter(kind: CountedKind, outcome: RecordOutcome) -> str:
    """Name the counter of what became of reports or replies on their way to the handlers."""
    return f"{kind}.{outcome}"


def handler_counter(handler: str, kind: CountedKind, outcome: DeliveryOutcome) -> str:
    """Name the counter of what became of reports or replies at one handler."""
    return f"{kind}.{outcome}:{handler}"


def handler_names(counters: Iterable[str]) -> list[str]:
    """Give the names of all handlers that have a counter among these: all that ever had an event."""
    return sorted({name.partition(":")[2] for name in counters if ":" in name})


def job(job_id: str) -> str:
    """Name RQ's hash of a job."""
    return str(Job.key_for(job_id))


def rq_queue(queue: str) -> str:
    """Name RQ's list of a queue's waiting jobs."""
    return f"rq:queue:{queue}"


def rq_intermediate(queue: str) -> str:
    """Name RQ's list of the jobs that a worker has popped and not yet started."""
    return str(IntermediateQueue.get_intermediate_queue_key(rq_queue(queue)))


def rq_started(queue: str) -> str:
    """Name RQ's registry of running jobs: members are <job id>:<execution id>."""
    return str(StartedJobRegistry.key_template.format(queue))


def rq_scheduled(queue: str) -> str:
    """Name RQ's registry of the jobs that are to enter a queue later."""
    return str(ScheduledJobRegistry.key_template.format(queue))


def rq_failed(queue: str) -> str:
    """Name RQ's registry of the jobs that it gave up on; ours never run out of retries, so it stays empty."""
    return str(FailedJobRegistry.key_template.format(queue))


def rq_worker(worker: str) -> str:
    """Name RQ's hash of a worker."""
    return f"rq:worker:{worker}"


def rq_workers(queue: str) -> str:
    """Name RQ's set of the workers of a queue: the keys of their hashes, of which those that died may be gone."""
    return f"rq:workers:{queue}"
