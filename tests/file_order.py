"""The order in which parallel workers of pytest take the files of tests: those that take longest first.

Long files wait more than they compute, so short ones, of all folders, are taken between them; and no worker is left
alone with a long file at the end.
"""

from collections.abc import Iterable
from typing import Final

# 15 s and more on two cores, the longest first (`make tests`, with `--durations=0`).
LONG_FILES: Final = (
    "ops/test_failure_actions.py",
    "ops/test_failure_pages.py",
    "acceptance/test_background.py",
    "acceptance/test_poison.py",
    "ops/test_live.py",
    "ops/test_very_many_failures.py",
    "ops/test_messages_page.py",
    "acceptance/test_traces.py",
    "integration/deliver/test_pause_pools.py",
    "deploy/test_redis_rights.py",
    "ops/test_sign_in.py",
    "integration/runtime/test_supervisor.py",
    "chaos/test_crowds.py",
    "chaos/test_soak.py",
    "deploy/test_rolling_upgrade.py",
    "integration/sql/test_backfill.py",
    "ops/test_single_flight.py",
    "ops/test_now.py",
    "integration/spool/test_spool_faults.py",
    "integration/deliver/test_delivery_prefetch.py",
    "chaos/test_failover.py",
    "integration/admin/test_handlers_queue.py",
    "acceptance/test_foreign_packages.py",
    "acceptance/test_traces_trouble.py",
    "acceptance/test_traces_off.py",
    "integration/http/test_http_overload.py",
    "integration/forward/test_refusals.py",
    "ops/test_open_paths.py",
    "integration/conformance/test_conformance.py",
    "integration/http/test_http_limits.py",
    "acceptance/test_demo.py",
    "chaos/test_random_kills.py",
    "integration/http/test_http_health.py",
    "acceptance/test_prometheus.py",
    "integration/jsonl/test_jsonl_trouble.py",
    "acceptance/test_failures.py",
    "deploy/test_cells.py",
    "acceptance/test_redis_elsewhere.py",
    "integration/deliver/test_handlers_independent.py",
    "integration/commit/test_commit_durability.py",
    "chaos/test_fuzz_sockets.py",
    "integration/http/test_http_process.py",
    "acceptance/test_campaign.py",
)


def positions(files: Iterable[str]) -> dict[str, int]:
    """Return the position of each file, given by its path below tests."""
    known = set(files)
    long = [file for file in LONG_FILES if file in known]
    # By name alone, which mixes the folders.
    short = sorted(known.difference(long), key=lambda file: (file.rpartition("/")[2], file))
    order: list[str] = []
    for number, file in enumerate(long):
        order.append(file)
        order += short[number * len(short) // len(long) : (number + 1) * len(short) // len(long)]
    return {file: position for position, file in enumerate(order or short)}
