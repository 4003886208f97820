"""The two functions that RQ runs, by the dotted names that stand in the jobs; and what a worker process needs for them.

The names are a stored format: jobs enqueued by one release run in the next.
"""

from typing import Any

from rq import get_current_job
from rq.job import Job

from workers.deliver.delivery import Deliverer
from workers.expand.expansion import Expander

_expander: Expander | None = None
_deliverer: Deliverer | None = None


class WorkerNotPrepared(Exception):
    """This process was not set up for the job: run `callbacks worker`, not `rq worker`."""


def prepare(*, expander: Expander | None = None, deliverer: Deliverer | None = None) -> None:
    """Set up this process, once, before its worker starts."""
    global _expander, _deliverer  # RQ calls the functions by name, so what they need is global
    _expander, _deliverer = expander, deliverer


def expand(*arguments: Any) -> None:
    """Run one batch: version, callbacks. See `shared.queues`."""
    if _expander is None:
        raise WorkerNotPrepared(WorkerNotPrepared.__doc__)
    job = _running_job()
    _expander.run(job_id=job.id, worker=job.worker_name or "", arguments=arguments)


def deliver(*arguments: Any) -> None:
    """Run one delivery: version, handler's name, number of the attempt, events. See `shared.queues`."""
    if _deliverer is None:
        raise WorkerNotPrepared(WorkerNotPrepared.__doc__)
    job = _running_job()
    _deliverer.run(job_id=job.id, worker=job.worker_name or "", arguments=arguments)


def _running_job() -> Job:
    job = get_current_job()
    if job is None:
        raise WorkerNotPrepared("a job runs only in a worker")
    return job
