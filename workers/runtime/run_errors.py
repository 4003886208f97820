"""The exceptions that end a run before all of its job is settled. The job's next run settles the rest.

Exception
├── StaleRun            this run no longer holds its job
├── HandlerPaused       nothing was claimed, because the handler is paused
├── SettlementFailed    outcomes could not be written down
└── Unfinished          there is more to do than this run may
    └── RunPaused       likewise, because the handler is paused
"""

from collections.abc import Callable


class StaleRun(Exception):
    """Another worker has taken over the job; what this run did since its last settlement is void."""


class HandlerPaused(Exception):
    """The handler is paused: nothing was claimed, and the job goes back to its queue."""


class SettlementFailed(Exception):
    """The outcomes of events could not be written down, and no single event explains it. The cause says why."""


class Unfinished(Exception):
    """The worker has to stop: the rest of the job goes back to the front of its queue."""


class RunPaused(Unfinished):
    """The handler is paused: the job and the jobs that the run coalesced go back to the queue, and the worker waits.

    `seconds_left()` returns how long the pause lasts at least; at 0 the worker claims a job again.
    """

    def __init__(self, seconds_left: Callable[[], float]) -> None:
        self.seconds_left = seconds_left
        super().__init__("the handler is paused")
