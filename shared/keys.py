"""All Redis keys of this service: type, owner and lifetime of each. RQ's keys are RQ's.

    key                            type    owner     lifetime
    cb:seen                        hash    expand    as long as the last of its sets: the generations of marks
    cb:seen:<generation>:<number>  set     expand    1.6 * CALLBACKS_DEDUPE_SECONDS: marks of events and requests seen
    cb:coalesced:<job id>          list    workers   while the job runs: ids of the jobs that it coalesced, oldest first
    cb:events                      hash    workers   a field while jobs need it: events that several handlers want, as
                                                     portions of JSON by name; workers/runtime/portions.lua
    cb:events:jobs                 hash    workers   likewise: how many jobs need each portion
    cb:forgotten                   hash    forget    1.6 * CALLBACKS_DEDUPE_SECONDS: keyed digests of numbers that were
                                                     forgotten, and their key; workers/expand/forgotten.py
    cb:forgetting                  hash    forget    30 days: runs of `callbacks forget` that have not ended
    cb:counts                      hash    all       none: the counters that the audit adds up, one field each
    cb:metrics                     hash    all       none: what processes counted for /metrics; shared/metrics_push.py
    cb:metrics:processes           zset    web       DAY_SECONDS: processes that push their state, by the last time
    cb:metrics:<process>           hash    all       DAY_SECONDS: the number of its last push, and its state
    cb:recent-rate                 hash    web       an hour and a minute: what came in lately; shared/recent_rate.py
    cb:recent-outcomes             hash    deliver   12 minutes: each handler's calls; shared/recent_outcomes.py
    cb:live                        hash    expand    10 s: what was published in this second; shared/live.py
    cb:quarantine                  zset    all       none: ids of quarantined callbacks by time
    cb:quarantine:<id>             hash    all       until dropped or replayed, at most FAILURE_EXPIRY_SECONDS
    cb:quarantine:bytes            string  all       while the quarantine is not empty: the sum of its fields `bytes`
    cb:dead:<handler>              zset    deliver   none: ids of a handler's dead letters by time
    cb:dead:<handler>:<id>         hash    deliver   until dropped or replayed, at most FAILURE_EXPIRY_SECONDS
    cb:dead:<handler>:bytes        string  deliver   as for the quarantine
    cb:paused:<handler>            hash    deliver   PAUSE_KEPT_SECONDS after its end; workers/runtime/pause.py
    cb:subscriptions               hash    expand    none: since when each handler gets events; expand/subscriptions.py
    cb:filters                     hash    expand    none: the filters of each entry; workers/expand/known_handlers.py
    cb:notices                     string  ops       none: states of conditions, unsent notices; ops/notices/store.py
    cb:notices:sender              string  ops       30 s after the last renewal: the process that sends notices
    cb:revoked-session:<session>   string  ops       as long as the session would have lasted, at most 12 hours
    cb:deliveries                  hash    deliver   31 days after its newest chunk: the number of each ring's newest
                                                     chunk of the delivery log, and since when it is complete
    cb:deliveries:<ring>:<number>  string  deliver   31 days, less if the log is full: what became of each attempt, as
                                                     packed entries; workers/deliver/delivery_log.py
    cb:retention                   hash    deliver   none: what retention last found, by store; shared/retention.py
    cb:backfilled:<handler>:<2 hex digits>
                                   set     admin     BACKFILLED_SECONDS after the last backfill: events it enqueued
    cb:actions                     zset    admin     none: ids of operators' actions by time, the last ACTIONS_KEPT
    cb:actions:<id>                hash    admin     ACTION_SECONDS, or while it is one of those; admin/action_log.py
    cb:actions:<id>:work           hash    admin     DAY_SECONDS after its last step: what is left to do of it;
                                                     admin/bulk_action.py
    cb:actions:<id>:replayed       list    admin     likewise: events it put back into a queue; replay_outcome.py
    cb:actions:<id>:runner         string  admin     RUNNER_SECONDS after the last renewal by the process that runs it

A mark is the 12 bytes of an event's id, or of the digest of a reply's request. Those that were made within half of
CALLBACKS_DEDUPE_SECONDS are a generation, and end together, so a mark lives for one to one and a half times as long. A
field of `cb:seen` is a generation: its name is its start (ms since 1970, Redis's clock), its value how many seconds its
marks live, the number of its sets, and the handlers that were offered its events: `86400 1 chat refund`. `?` for the
handlers means that they are not known. See workers/runtime/marks.lua.

A job's hash (`rq:job:<id>`, RQ's) has ten fields of ours: `items`, how many records or events it has; `portions`, the
names of those in cb:events that hold its events, until all are settled;
`progress`, how many of them are settled (see `shared.progress`); `settlement`, the name of the last settlement;
`deaths`, how many workers died with it, and `failures`, how many of its runs failed, since it last made progress;
`finished`, what its handler had finished beyond what is settled; `isolated`, if it runs with no other job, because a
worker could not read it or a run with it failed; and in a retry `error`, what its last attempt raised or said, masked,
and `attempts`, how many its handler has. A run's hash (`rq:execution:<job id>:<run id>`, RQ's) has one:
`stopping`, if its worker was asked to stop, so that its end does not count as a death.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry

from shared import retention

RecordOutcome: TypeAlias = Literal["received", "unique", "duplicate", "quarantined", "dropped", "forgotten"]
DeliveryOutcome: TypeAlias = Literal["queued", "delivered", "filtered", "dead", "dropped", "forgotten"]
CountedKind: TypeAlias = Literal["report", "reply", "unknown"]

SEEN: Final = "cb:seen"
COALESCED_PREFIX: Final = "cb:coalesced:"
COUNTS: Final = "cb:counts"
PORTIONS: Final = "cb:events"
PORTION_JOBS: Final = "cb:events:jobs"
FORGOTTEN: Final = "cb:forgotten"
FORGETTING: Final = "cb:forgetting"
QUARANTINE: Final = "cb:quarantine"
SUBSCRIPTIONS: Final = "cb:subscriptions"
FILTERS: Final = "cb:filters"
ACTIONS: Final = "cb:actions"
NOTICES: Final = "cb:notices"
NOTICES_SENDER: Final = "cb:notices:sender"
METRICS: Final = "cb:metrics"
METRICS_PROCESSES: Final = "cb:metrics:processes"
RECENT_RATE: Final = "cb:recent-rate"
RECENT_OUTCOMES: Final = "cb:recent-outcomes"
LIVE: Final = "cb:live"
DELIVERY_LOG: Final = "cb:deliveries"
RETENTION: Final = "cb:retention"

# The counter of replies that had the `req_uuid` of another reply, and were delivered.
REUSED_REQ_UUIDS: Final = "reply.reused_req_uuid"

DAY_SECONDS: Final = retention.DAY_SECONDS
# Workers drop failures, and count them as dropped (`retention.FAILURE_DAYS`). If none does so for a month longer than
# any setting allows, Redis deletes them, and they stay counted as kept.
FAILURE_EXPIRY_SECONDS: Final = (retention.MAX_FAILURE_DAYS + 30) * DAY_SECONDS
# An interrupted backfill continues where it was if it is run again within this time.
BACKFILLED_SECONDS: Final = 30 * DAY_SECONDS
# A pause whose time is over ends with the first event that is tried. If none comes for this long, or the handler is
# gone, it ends by itself, and the next one is a new pause.
PAUSE_KEPT_SECONDS: Final = DAY_SECONDS
PAUSE_KEPT_MS: Final = PAUSE_KEPT_SECONDS * 1000
# Some MiB of operators' actions, at most those of the last year.
ACTIONS_KEPT: Final = 5000
ACTION_SECONDS: Final = retention.MAX_ACTION_DAYS * DAY_SECONDS
# A process that has not renewed its lease for this long has ended, and another may resume the action.
RUNNER_SECONDS: Final = 15
# What Redis needs for a failure besides its fields: its keys, its member in the index, its lifetime.
# Measured on Redis 7.0: 315 bytes if all its fields are shorter than 65 bytes, otherwise 720 to 780.
# workers/runtime/settlement.lua has the same number for the scripts.
FAILURE_OVERHEAD_BYTES: Final = 768

# 96 bits: that two of a thousand million marks are the same has a probability of 10⁻¹¹.
_DIGEST: Final = re.compile("[0-9a-fA-F]{24}")
# Stands for an id that is no digest, where marks are only searched: no event has it.
_NO_DIGEST: Final = "0" * 24

RQ_QUEUES: Final = "rq:queues"


def seen_marks(digests: Iterable[str]) -> bytes:
    """Return the marks of events or requests, one after the other. Raise ValueError if one is not a digest."""
    texts = list(digests)
    try:
        marks = bytes.fromhex("".join(texts))
    except ValueError:
        marks = b""
    # `bytes.fromhex` skips blanks.
    if 2 * len(marks) != 24 * len(texts) or not {24}.issuperset(map(len, texts)):
        raise ValueError("a mark is a digest of 24 hexadecimal digits")
    return marks


def searched_marks(event_ids: Iterable[str]) -> bytes:
    """Return the marks to search for, one for each id: an id that is no digest has a mark that is never found."""
    return seen_marks(text if _DIGEST.fullmatch(text) else _NO_DIGEST for text in event_ids)


def seen_handlers(names: Iterable[str]) -> str:
    """Return the handlers of a generation of marks."""
    return " ".join(sorted(names))


def coalesced(job_id: str) -> str:
    """Name the list of the jobs that a running job coalesced."""
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
    """Name the prefix of the sets of events that `callbacks backfill` enqueued for a handler."""
    return f"cb:backfilled:{handler}:"


def paused(handler: str) -> str:
    """Name the pause of a handler: it is paused as long as the key exists."""
    return f"cb:paused:{handler}"


def revoked_session(session: str) -> str:
    """Name the note that a session of the operators' page has ended before its time."""
    return f"cb:revoked-session:{session}"


def failures_bytes(index: str) -> str:
    """Name the sum of the bytes of the failures in an index, QUARANTINE or `dead(handler)`."""
    return f"{index}:bytes"


def failure(index: str, failure_id: str) -> str:
    """Name one failure of an index, as `quarantined` and `dead_letter` do."""
    return f"{index}:{failure_id}"


def action(action_id: str) -> str:
    """Name what is noted of one act of an operator."""
    return f"{ACTIONS}:{action_id}"


def action_work(action_id: str) -> str:
    """Name what is left to do of an act."""
    return f"{action(action_id)}:work"


def action_replayed(action_id: str) -> str:
    """Name the list of the events that a replay has put back."""
    return f"{action(action_id)}:replayed"


def action_runner(action_id: str) -> str:
    """Name the lease of the process that runs a bulk action."""
    return f"{action(action_id)}:runner"


def metrics_of(process: str) -> str:
    """Name the hash of the last metrics push of a process."""
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
    """Return the names of all handlers that have a counter among these: all that ever had an event."""
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
    """Name RQ's registry of the jobs that it gave up on. Jobs of ours never run out of retries, so it stays empty."""
    return str(FailedJobRegistry.key_template.format(queue))


def rq_worker(worker: str) -> str:
    """Name RQ's hash of a worker."""
    return f"rq:worker:{worker}"


def rq_workers(queue: str) -> str:
    """Name RQ's set of the workers of a queue: the keys of their hashes. Those of dead workers may be gone."""
    return f"rq:workers:{queue}"
