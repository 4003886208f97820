"""Under load, whatever is killed whenever: nothing acknowledged is lost, nothing is delivered twice, the sum comes out.

Only the event that a handler had in its hands when its process was killed may come to it again, and these are counted.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.acceptance.processes import started
from tests.chaos import campaign
from tests.chaos.campaign import Call
from tests.chaos.fleet import Fleet
from tests.redis_server import RedisServer, free_port


def test_random_kills_lose_nothing_and_double_nothing(
    tmp_path: Path,
    start_redis: Callable[..., RedisServer],
    chaos_seconds: float,
    chaos_seed: int,
    record_property: Callable[[str, object], None],
) -> None:
    redis, port, chance = start_redis(), free_port(), random.Random(chaos_seed)
    with started(tmp_path, campaign.recorded_environment(tmp_path, redis.url, port)) as start:
        fleet = Fleet(start, redis, chance)
        gateway = campaign.load(start, port, seconds=chaos_seconds, seed=chaos_seed)
        while gateway.process.poll() is None:
            time.sleep(chance.uniform(0.2, 1.5))
            fleet.break_something()
            fleet.revive()
        sums = campaign.rest(redis, port, revive=fleet.revive)
        fleet.stop()

    outcome = campaign.outcome(tmp_path)
    campaign.report_totals({"kills": Counter(fleet.kills), **outcome.totals}, record_property)
    assert outcome.expected
    assert not outcome.lost
    interrupted = Counter(event_id for pid, event_id in _last_of_each(outcome.calls).items() if pid in fleet.killed)
    again = Counter({event_id: number - 1 for event_id, number in outcome.times.items() if number > 1})
    assert again <= interrupted, "it came again, and no process was killed that had it in hands"
    assert sums.balances


def _last_of_each(calls: Iterable[Call]) -> dict[int, str]:
    """Return the last event that each process had, by process id."""
    return {call.pid: call.event_id for call in calls}
