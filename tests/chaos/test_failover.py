"""The primary dies under load, Sentinel promotes the replica: nothing acknowledged is lost, and the sum comes out.

At the level `replica` a callback is acknowledged when a replica has it, or the spool. The workers' own writes do not
wait for a replica: what the old primary had not sent on when it died is taken back, and done again. So events may come
twice to their handlers: those settled since the replica heard the last of its primary.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.processes import Running, get, started
from tests.chaos import campaign
from tests.chaos.campaign import Call
from tests.chaos.fleet import Fleet
from tests.redis_server import RedisServer, free_port, require
from tests.sentinels import FailingOver, until

long = pytest.mark.skipif("CHAOS_SECONDS" not in os.environ, reason="half a minute each: `make chaos` runs it")

# The load of a test with one failover.
_LOAD_SECONDS = 8.0
_CUT_OFF_SECONDS = 2.0
# A replica is behind by less than this, on a busy machine too, unless it hangs.
_BEHIND_SECONDS = 3.0


@dataclass
class Failovers:
    """A service on a Redis that fails over, under load, and what was done to it (times: unix, in seconds)."""

    redis: FailingOver
    fleet: Fleet
    gateway: Running
    port: int
    failovers: int = 0
    taken_back: list[tuple[float, float]] = field(default_factory=list)
    """What the workers did in these times is known to nobody any more: from when to when."""
    seconds_away: list[float] = field(default_factory=list)

    def destination(self) -> str:
        """Say where callbacks are kept now."""
        _, readiness = get(f"http://127.0.0.1:{self.port}/readyz")
        return str(readiness["destination"]) if readiness else "none"

    def over(self, old: RedisServer) -> None:
        """Have the replica take over from `old`, which is gone since now, and come to rest with a new replica."""
        gone = time.time()
        self.failovers += 1
        self.taken_back.append((gone, gone))
        new = self.redis.promoted(old)
        # Level `replica` needs one: until it is there the spool takes what comes.
        until(lambda: self.destination() == "spool", "callbacks kept in the spool")
        self.redis.attach(new)
        until(lambda: self.destination() == "redis", "callbacks kept in Redis again")
        self.seconds_away.append(round(time.time() - gone, 1))
        self.fleet.revive()


@contextmanager
def failing_over(
    folder: Path, *, seconds: float, seed: int, options: Mapping[str, str] | None = None
) -> Iterator[Failovers]:
    """Yield a service on a Redis that fails over, and begin the load."""
    require()
    port = free_port()
    with FailingOver(options or {}) as redis:
        environment = campaign.recorded_environment(folder, redis.url, port, CALLBACKS_DURABILITY="replica")
        with started(folder, environment) as start:
            fleet = Fleet(start, redis.primary(), random.Random(seed))
            until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "a service that is ready")
            yield Failovers(redis, fleet, campaign.load(start, port, seconds=seconds, seed=seed), port)
            fleet.stop()


def sum_up(run: Failovers, folder: Path, record_property: Callable[[str, object], None] | None = None) -> None:
    """Wait until all is at rest, and see what became of what was acknowledged."""
    run.gateway.wait(600)
    sums = campaign.rest(run.redis.primary(), run.port, revive=run.fleet.revive)
    outcome = campaign.outcome(folder)
    totals: dict[str, object] = {
        "kills": run.failovers,
        **outcome.totals,
        "seconds_until_redis_again": run.seconds_away,
    }
    campaign.report_totals(totals, record_property)
    assert outcome.expected
    assert not outcome.lost
    for times in _times_of_each(outcome.calls).values():
        for before in sorted(times)[:-1]:
            assert any(since - _BEHIND_SECONDS < before < until + _BEHIND_SECONDS for since, until in run.taken_back), (
                f"taken back {before}, not in {run.taken_back}"
            )
    assert sums.balances


def _times_of_each(calls: Iterable[Call]) -> dict[str, list[float]]:
    """Return for each event when the handler had it (unix time in seconds)."""
    times: dict[str, list[float]] = {}
    for call in calls:
        times.setdefault(call.event_id, []).append(call.at)
    return times


def test_a_primary_that_is_killed_takes_nothing_acknowledged_with_it(
    tmp_path: Path, chaos_seconds: float, chaos_seed: int, record_property: Callable[[str, object], None]
) -> None:
    seconds = chaos_seconds if "CHAOS_SECONDS" in os.environ else _LOAD_SECONDS
    with failing_over(tmp_path, seconds=seconds, seed=chaos_seed) as run:
        while run.gateway.process.poll() is None or not run.failovers:
            time.sleep(3)
            until(run.redis.could_fail_over, "Sentinels that could fail over")
            old = run.redis.primary()
            old.kill()
            run.over(old)
        sum_up(run, tmp_path, record_property)


@long
def test_what_a_replica_did_not_hear_before_its_primary_died_is_done_again(tmp_path: Path, chaos_seed: int) -> None:
    with failing_over(tmp_path, seconds=_LOAD_SECONDS, seed=chaos_seed) as run:
        time.sleep(3)
        old = run.redis.primary()
        cut_off = time.time()
        run.redis.cut_off_replicas(old)
        time.sleep(_CUT_OFF_SECONDS)
        old.kill()
        run.taken_back.append((cut_off, time.time()))
        run.over(old)
        sum_up(run, tmp_path)


@long
@pytest.mark.parametrize("min_replicas", ["0", "1"])
def test_an_old_primary_that_only_hung_has_kept_nothing_to_itself(
    tmp_path: Path, chaos_seed: int, min_replicas: str
) -> None:
    options = {"min-replicas-to-write": min_replicas, "min-replicas-max-lag": "2"}
    with failing_over(tmp_path, seconds=_LOAD_SECONDS, seed=chaos_seed, options=options) as run:
        time.sleep(3)
        old = run.redis.primary()
        old.pause()
        try:
            run.over(old)
        finally:
            old.resume()
        resumed = time.time()
        # Until it is told, it takes itself for the primary, and so do workers that hung with it; unless it has to have
        # a replica for each write, of which it has none any more.
        with old.client() as client:
            until(lambda: client.info("replication")["role"] == "slave", "an old primary that follows the new one")
        run.taken_back.append((resumed, resumed if min_replicas == "1" else time.time()))
        sum_up(run, tmp_path)
