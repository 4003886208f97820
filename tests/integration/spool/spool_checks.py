"""What the tests of the spool share: faults of Redis and their repair, and what a web process reports of its spool."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.redis_server import RedisServer, StartRedis
from tests.web_process import TOKEN, WebProcess, kept, quarantine, until

# Shorter time-outs and pauses for tests.
HURRIED: Final = """
import ingest.spool.drainer, ingest.durability_gate, ingest.redis_store
ingest.redis_store.WEB_TIMEOUT_SECONDS = 1.0
ingest.durability_gate.CHECK_SECONDS = ingest.durability_gate.RECHECK_SECONDS = 0.2
ingest.spool.drainer.CHECK_SECONDS = ingest.spool.drainer.PAUSE_SECONDS = 0.2
"""

Repair: TypeAlias = Callable[[], object]


def killed(server: RedisServer, start_redis: StartRedis) -> Repair:
    """Kill Redis."""
    server.kill()
    return server.start


def hanging(server: RedisServer, start_redis: StartRedis) -> Repair:
    """Stop Redis with its connections open, so that nothing is answered."""
    server.pause()
    return server.resume


def out_of_memory(server: RedisServer, start_redis: StartRedis) -> Repair:
    """Make Redis refuse commands that need memory."""
    configure(server, "maxmemory", "1mb")
    return lambda: configure(server, "maxmemory", "0")


def read_only(server: RedisServer, start_redis: StartRedis) -> Repair:
    """Make it a replica of another, as a failover does to the old primary."""
    primary = start_redis()
    with server.client() as client:
        client.replicaof("127.0.0.1", primary.port)

    def repair() -> None:
        with server.client() as client:
            client.replicaof("NO", "ONE")

    return repair


def misconf(server: RedisServer, start_redis: StartRedis) -> Repair:
    """Make a snapshot fail: Redis then refuses writes, and every durability check still passes."""
    in_the_way = server.folder / "dump.rdb"
    in_the_way.mkdir()
    with server.client() as client:
        client.config_set("save", "3600 1")
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

    def repair() -> None:
        configure(server, "save", "")
        in_the_way.rmdir()

    return repair


def below_its_level(server: RedisServer, start_redis: StartRedis) -> Repair:
    """Make Redis answer before it has synced."""
    configure(server, "appendfsync", "no")
    return lambda: configure(server, "appendfsync", "always")


def configure(server: RedisServer, parameter: str, value: str) -> None:
    """Set a parameter of a running server."""
    with server.client() as client:
        client.config_set(parameter, value)


def readiness(web: WebProcess) -> dict[str, Any]:
    """Return the document of /readyz, after checking that its status agrees."""
    with web.client() as client:
        answer = client.get("/readyz")
    document: dict[str, Any] = answer.json()
    assert (answer.status_code == 200) == (document["status"] == "ready")
    assert (answer.status_code == 200) == all(check["ok"] for check in document["checks"].values())
    return document


def spool_of(web: WebProcess) -> dict[str, Any]:
    """Return the check of the spool in /readyz."""
    check: dict[str, Any] = readiness(web)["checks"]["spool"]
    return check


def drained(web: WebProcess) -> bool:
    """Return whether the process is ready and nothing waits."""
    document = readiness(web)
    return bool(document["status"] == "ready" and document["checks"]["spool"]["waiting_callbacks"] == 0)


def missing(server: RedisServer, bodies: Iterable[bytes]) -> set[bytes]:
    """Return those of `bodies` that are not in Redis."""
    found = {callback.body.encode() for callback in kept(server)}
    return set(bodies) - found - {entry["body"].encode() for entry in quarantine(server)}


def states(web: WebProcess) -> list[str]:
    """Return the states of the spool that were logged, in order."""
    return re.findall(r"action=spool state=(\w+)", web.output)


def says_nothing_private(web: WebProcess) -> None:
    """Assert that no token, text or number was logged, and no unexpected error."""
    for private in (TOKEN, "35699000", "3569900", "Grazzi", "Traceback", "action=unexpected_error"):
        assert private not in web.output, web.output


def files(folder: Path, pattern: str) -> list[str]:
    """Return the names of the files in the spool's folder."""
    return sorted(path.name for path in folder.glob(pattern))
