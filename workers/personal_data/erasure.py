"""Erase numbers from stores between which events move, until none of them holds one.

Safe while workers run, and after a kill: each change is one atomic step, and running it again continues.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from workers.personal_data.report import StoreResult, add_pass, timed
from workers.personal_data.stores import PersonStore

# How long it waits for jobs that run. A handler's call may take 30 s, a batch several calls.
WAIT_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.2


def erase_until_clean(
    stores: Sequence[PersonStore], *, dry_run: bool, wait_seconds: float = WAIT_SECONDS
) -> list[StoreResult]:
    """Erase from these stores, in the direction in which events move, until a whole pass finds nothing.

    A job that was running may be a retry or a dead letter by then, so one pass is not enough.
    """
    deadline = time.monotonic() + wait_seconds
    totals = results = _run_pass(stores, dry_run=dry_run)
    while not dry_run and any(result.found for result in results):
        if any(result.left for result in results):
            if time.monotonic() >= deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        results = _run_pass(stores, dry_run=False)
        totals = [add_pass(earlier, later) for earlier, later in zip(totals, results, strict=True)]
    return totals


def _run_pass(stores: Sequence[PersonStore], *, dry_run: bool) -> list[StoreResult]:
    results = [timed(partial(store.erase, dry_run=dry_run)) for store in stores]
    if not dry_run:
        # An event moves back if somebody replays its dead letter after the first store was searched.
        results[0] = add_pass(results[0], timed(partial(stores[0].erase, dry_run=False)))
    return results
