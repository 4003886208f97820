"""A busy worker works in rounds: it claims what waits, settles it, waits until the cooldown is over, and claims again.

All rounds are one run. To start and end a run costs a worker and Redis more than a round of a hundred callbacks does,
and without the cooldown the rounds would be small, however fast they are: each has a price that is the same for one
callback as for a thousand.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from workers.runtime.claim import ClaimedJob

# At most once in this time a run claims again. While there is load, an event may be expanded, and then delivered, so
# much later; a worker that has only one job to do ends its run at once.
COOLDOWN_SECONDS: Final = 0.03
# To RQ a run is one job: for this long its counters stand still, and the run's first job stays in Redis.
MAX_RUN_SECONDS: Final = 5.0


def rounds(
    claim: Callable[[], list[ClaimedJob]],
    claim_more: Callable[[], list[ClaimedJob]],
    *,
    is_stopping: Callable[[], bool],
) -> Iterator[list[ClaimedJob]]:
    """Yield the jobs of each round of a run: the first claims them by `claim`, the others by `claim_more`.

    The caller settles them before it asks for the next round, which waits for the rest of the cooldown. The run ends
    with a round of a single job, as there is no load, with a job that killed a worker, as that runs alone, when
    `is_stopping()`, after MAX_RUN_SECONDS, and if nothing was claimed.
    """
    run_began = round_began = time.monotonic()
    claimed_jobs = claim()
    while claimed_jobs:
        yield claimed_jobs
        now = time.monotonic()
        if len(claimed_jobs) == 1 or claimed_jobs[0].deaths or now - run_began > MAX_RUN_SECONDS or is_stopping():
            return
        time.sleep(max(0.0, round_began + COOLDOWN_SECONDS - now))
        round_began = time.monotonic()
        if is_stopping():
            return
        claimed_jobs = claim_more()
