"""The disk of Redis's append-only file fills under load: callbacks go to the spool, and from there to Redis again.

With `appendfsync always` a Redis that cannot write its file ends at once, as it cannot take back what it has done; its
platform starts it again and again. With everysec it lives on, and refuses to write (MISCONF) until there is room.
"""

import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from tests.acceptance.processes import get, started
from tests.chaos import campaign
from tests.chaos.fleet import Fleet
from tests.redis_server import RedisServer, free_port, require, require_newer
from tests.sentinels import until
from tests.small_disk import ballast

# For how long the disk is full at least, how many callbacks the spool has then, and for how long they are waited for.
_FULL_SECONDS: Final = 3.0
_IN_SPOOL: Final = 20
_FILLING_SECONDS: Final = 60.0
# The load fits on the disk when there is room. With everysec a commit takes up to a second: so much less of it.
_LOAD_SECONDS: Final = {"always": 8.0, "everysec": 2.0}


def last_write(server: RedisServer) -> str:
    """Return what it says of its file, "ok" or "err"; "" where it has ended. (PING is refused like a write.)"""
    with server.client() as client, suppress(redis.RedisError):
        return str(client.info("persistence")["aof_last_write_status"])
    return ""


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_a_full_disk_of_redis_costs_no_callback(tmp_path: Path, disk: Path, chaos_seed: int, appendfsync: str) -> None:
    require()
    options = {"dir": str(disk), "appendfsync": appendfsync}
    server = RedisServer(options, server=None if appendfsync == "always" else require_newer((7, 2)))
    port = free_port()
    environment = campaign.recorded_environment(tmp_path, server.url, port)

    def output() -> Any:
        return get(f"http://127.0.0.1:{port}/readyz")[1]

    def waiting() -> int:
        return int(output()["checks"]["spool"]["waiting_callbacks"])

    restarts = 0
    with server, ballast(disk) as make_room, started(tmp_path, environment) as start:
        fleet = Fleet(start, server, random.Random(chaos_seed))
        until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "a service that is ready")
        gateway = campaign.load(start, port, seconds=_LOAD_SECONDS[appendfsync], seed=chaos_seed)
        until(lambda: last_write(server) != "ok", "a disk that is full")
        assert last_write(server) == ("err" if appendfsync == "everysec" else "")
        full = time.monotonic()
        while time.monotonic() < full + _FULL_SECONDS or waiting() < _IN_SPOOL:
            assert time.monotonic() < full + _FILLING_SECONDS, f"only {waiting()} callbacks came into the spool"
            if not last_write(server):
                restarts += 1
                with suppress(RuntimeError):
                    server.restart()
            fleet.revive()
            time.sleep(0.5)
        in_spool = waiting()
        until(lambda: "redis" not in output()["destination"], "callbacks kept in the spool")
        make_room()
        if not last_write(server):
            server.restart()
        gateway.wait(600)
        sums = campaign.rest(server, port, revive=fleet.revive)
        fleet.stop()

    outcome = campaign.outcome(tmp_path)
    totals = outcome.totals
    campaign.report_totals({**totals, "in_spool": in_spool, "restarts": restarts})
    assert outcome.expected
    assert not outcome.lost
    assert totals["discarded"] == totals["refused"] == 0
    assert totals["doubled"] == 0
    assert sums.balances
