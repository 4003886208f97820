"""The two jobs that RQ runs, by the dotted names that the queues hold; and what a worker process needs for them.

The names are a stored format: jobs enqueued by one release run in the next.
"""

from typing import Any

from rq import get_current_job
from rq.job import Job

from workers.deliver.delivery import Deliveries
from workers.expand.expansion import Expansion

_expansion: Expansion | None = None
_deliveries: Deliveries | None = None


class NotReady(Exception):
    """This process was not set up for the job: run `callbacks worker`, not `rq worker`."""


def prepare(*, expansion: Expansion | None = None, deliveries: Deliveries | None = None) -> None:
    """Set up this process, once, before its worker starts."""
    global _expansion, _deliveries  # RQ calls the jobs by name, so what they need is the process's
    _expansion, _deliveries = expansion, deliveries


def expand(*arguments: Any) -> None:
    """Run one batch: version, callbacks. See `shared.queues`."""
    if _expansion is None:
        raise NotReady(NotReady.__doc__)
    _expansion.run(job_id=_running_job().id, arguments=arguments)


def deliver(*arguments: Any) -> None:
    """Run one delivery: version, handler's name, number of the attempt, events. See `shared.queues`."""
    if _deliveries is None:
        raise NotReady(NotReady.__doc__)
    job = _running_job()
    _deliveries.run(job_id=job.id, worker=job.worker_name or "", arguments=arguments)


def _running_job() -> Job:
    job = get_current_job()
    if job is None:
        raise NotReady("a job runs only in a worker")
    return job
