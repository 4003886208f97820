"""A busy worker works in rounds: it claims what waits, settles it, waits until the cooldown is over, and claims again.

All rounds are one run. To start and end a run costs a worker and Redis more than a round of a hundred callbacks does,
and without the cooldown the rounds would be small, however fast they are: each has a price that is the same for one
callback as for a thousand.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from workers.runtime.claim import ClaimedJob

# At most once in this time a run claims again. While there is load, an event may be expanded, and then delivered, so
# much later; a worker that has only one job to do ends its run at once.
COOLDOWN_SECONDS: Final = 0.03
# To RQ a run is one job: for this long its counters stand still, and the run's first job stays in Redis.
MAX_RUN_SECONDS: Final = 5.0


class Cooldown:
    """Paces the runs of one process, one after the other. `is_stopping` is asked before each round."""

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping
        self._run_began = self._round_began = 0.0

    def begin_run(self) -> None:
        """Begin a run with its first round."""
        self._run_began = self._round_began = time.monotonic()

    def begin_round(self, settled: Sequence[ClaimedJob]) -> bool:
        """Wait until the next round may begin; return False if the run ends with these jobs, the last round's.

        It ends with a single job, as there is no load, with a job that killed a worker, as that runs alone, with a
        worker that has to stop, and after MAX_RUN_SECONDS.
        """
        now = time.monotonic()
        if len(settled) == 1 or settled[0].deaths or now - self._run_began > MAX_RUN_SECONDS or self._is_stopping():
            return False
        time.sleep(max(0.0, self._round_began + COOLDOWN_SECONDS - now))
        self._round_began = time.monotonic()
        return not self._is_stopping()
