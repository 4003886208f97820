"""Hosts that are cut off, frozen, slow, or wrong about the time: nothing accepted is lost, and the sum comes out.

`make hosts` runs all faults, three rounds each (HOSTS_ROUNDS, HOSTS_SEED); without HOSTS_ROUNDS it is one short fault.
Linux, root, iproute2, nftables, HAProxy and for the clocks a C compiler are needed: elsewhere it is skipped.
"""

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from tests import redis_server
from tests.hosts import clock, results, rounds
from tests.hosts.faults import FAULTS, SHORTEST, Fault
from tests.hosts.namespaces import Namespace
from tests.hosts.stack import Stack

ROUNDS = int(os.environ.get("HOSTS_ROUNDS", "0"))
SEED = int(os.environ.get("HOSTS_SEED") or random.randrange(10**6))
# Callbacks a second, of ten records each.
RATE = 10.0
# A host settles four times a second, and may be late when this machine is busy.
_BEFORE_SECONDS = 1.0


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """Skip the test where there can be no hosts; in CI (CI=true) that is a failure."""
    redis_server.require()
    missing = [name for name in ("ip", "nft", "haproxy") if shutil.which(name) is None]
    if ROUNDS and not clock.is_possible():
        missing.append("cc")
    try:
        with Namespace("probe"):
            pass
    except OSError as exc:
        missing.append(f"the right to make a network namespace ({exc.strerror})")
    if not missing:
        return
    message = f"tests with several hosts need Linux and root; missing here: {', '.join(missing)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.mark.parametrize("fault", FAULTS if ROUNDS else [SHORTEST], ids=lambda fault: fault.name)
def test_what_was_accepted_is_delivered_whatever_happens_between_hosts(fault: Fault, tmp_path: Path) -> None:
    with Stack(tmp_path, own_clocks=fault.own_clocks) as stack:
        for number in range(max(1, ROUNDS)):
            found = rounds.run(stack, fault, seed=SEED + number, rate=RATE, folder=tmp_path)
            sys.stdout.write(results.line(found))
            if ROUNDS:
                results.append(found)
            assert found.events
            assert not found.lost
            assert found.balances
            assert found.doubled == 0 or (
                fault.repeats_until is not None
                and found.doubled_between is not None
                and found.doubled_between[0] > -_BEFORE_SECONDS
                and found.doubled_between[1] < fault.repeats_until
            ), "more is doubled than docs/guarantees.md says"
