"""The largest callback that may be taken is one that a worker has the memory for."""

from pathlib import Path
from typing import Final

import yaml

from shared import batches, keys
from shared.setting_groups.web import MAX_BODY_BYTES
from tests.acceptance.processes import Running, descendants_of, started
from tests.deploy.deployment import DEPLOY, environment
from tests.memory import resident_mib
from tests.redis_server import RedisServer, StartRedis, free_port

# A quarter of the largest body, of the smallest records, which take most for each byte; in real ones there is less.
SHARE: Final = 4
RECORD: Final = b'{"message_id":"%d","status":"SEEN"}'


def test_the_largest_callback_is_expanded_within_the_memory_of_a_pod(start_redis: StartRedis, tmp_path: Path) -> None:
    server = start_redis()
    with started(tmp_path, environment(server.url, free_port(), tmp_path), forked=False) as start:
        worker = start("worker", "expand", CALLBACKS_HANDLERS="log")
        expand(server, worker, 1, once=b'{"data":[%s]}' % (RECORD % 0))
        small_mib = peaks_mib(tmp_path)
        records = MAX_BODY_BYTES // SHARE // len(RECORD % 100_000)
        body = b'{"data":[%s]}' % b",".join(RECORD % number for number in range(1, records + 1))
        expand(server, worker, records + 1, once=body)
        grown_mib = peaks_mib(tmp_path) - small_mib
    assert small_mib + SHARE * grown_mib < limit_mib("callbacks-expand")


def expand(server: RedisServer, worker: Running, unique: int, *, once: bytes) -> None:
    """Enqueue a callback, and wait until `events` in all have come of what was enqueued."""
    kept = batches.Accepted("status", "fortytwo", batches.now_ms(), once.count(b"message_id"), once.decode())
    with server.client() as client:
        for command in batches.commit_commands([kept]):
            client.execute_command(*command)
        worker.until(lambda: client.hget(keys.COUNTS, "report.unique") == str(unique), "the events")


def peaks_mib(folder: Path) -> float:
    """Sum up the most that each process of the pod has had at once."""
    return sum(resident_mib(pid, peak=True) for pid in descendants_of(folder))


def limit_mib(name: str) -> float:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "base" / "workers.yaml").read_text())
    (pod,) = (each["spec"]["template"]["spec"] for each in documents if each["metadata"]["name"] == name)
    limit: str = pod["containers"][0]["resources"]["limits"]["memory"]
    return float(limit.removesuffix("Mi"))
