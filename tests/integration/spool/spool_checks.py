"""What the tests of the spool share: faults of Redis and their mending, and what a web process says of its spool."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.integration.conftest import TOKEN, StartRedis, WebProcess, kept, quarantine, until
from tests.redis_server import RedisServer

# Time-outs and pauses that a test need not sit through; what they do is the same.
HURRIED: Final = """
import ingest.spool.drainer, ingest.health, ingest.redis_store
ingest.redis_store.WEB_TIMEOUT_SECONDS = 1.0
ingest.health.CHECK_SECONDS = ingest.health.RECHECK_SECONDS = 0.2
ingest.spool.drainer.CHECK_SECONDS = ingest.spool.drainer.PAUSE_SECONDS = 0.2
"""

Mend: TypeAlias = Callable[[], object]


def killed(server: RedisServer, start_redis: StartRedis) -> Mend:
    """Let Redis crash."""
    server.kill()
    return server.start


def hanging(server: RedisServer, start_redis: StartRedis) -> Mend:
    """Let connections stay open, and nothing be answered."""
    server.pause()
    return server.resume


def out_of_memory(server: RedisServer, start_redis: StartRedis) -> Mend:
    """Let Redis refuse what needs memory."""
    configure(server, "maxmemory", "1mb")
    return lambda: configure(server, "maxmemory", "0")


def read_only(server: RedisServer, start_redis: StartRedis) -> Mend:
    """Make it a replica of another, as a failover does to the old primary."""
    primary = start_redis()
    with server.client() as client:
        client.replicaof("127.0.0.1", primary.port)

    def mend() -> None:
        with server.client() as client:
            client.replicaof("NO", "ONE")

    return mend


def misconf(server: RedisServer, start_redis: StartRedis) -> Mend:
    """Let a snapshot fail, after which Redis refuses writes, and every check of durability still holds."""
    in_the_way = server.folder / "dump.rdb"
    in_the_way.mkdir()
    with server.client() as client:
        client.config_set("save", "3600 1")
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

    def mend() -> None:
        configure(server, "save", "")
        in_the_way.rmdir()

    return mend


def below_its_level(server: RedisServer, start_redis: StartRedis) -> Mend:
    """Let Redis answer before it has fsynced."""
    configure(server, "appendfsync", "no")
    return lambda: configure(server, "appendfsync", "always")


def configure(server: RedisServer, parameter: str, value: str) -> None:
    """Set a parameter of a running server."""
    with server.client() as client:
        client.config_set(parameter, value)


def readiness(web: WebProcess) -> dict[str, Any]:
    """Give what /readyz says; that it is ready is what the status says."""
    with web.client() as client:
        answer = client.get("/readyz")
    told: dict[str, Any] = answer.json()
    assert (answer.status_code == 200) == (told["status"] == "ready")
    assert (answer.status_code == 200) == all(check["ok"] for check in told["checks"].values())
    return told


def spool_of(web: WebProcess) -> dict[str, Any]:
    """Give what /readyz says of the spool."""
    check: dict[str, Any] = readiness(web)["checks"]["spool"]
    return check


def drained(web: WebProcess) -> bool:
    """Whether all is well again and nothing waits."""
    told = readiness(web)
    return bool(told["status"] == "ready" and told["checks"]["spool"]["waiting_callbacks"] == 0)


def missing(server: RedisServer, bodies: Iterable[bytes]) -> set[bytes]:
    """Give those of `bodies` that Redis has not."""
    found = {callback.body.encode() for callback in kept(server)}
    return set(bodies) - found - {entry["body"].encode() for entry in quarantine(server)}


def states(web: WebProcess) -> list[str]:
    """Give the states of the spool that were logged, one after the other."""
    return re.findall(r"action=spool state=(\w+)", web.output)


def says_nothing_private(web: WebProcess) -> None:
    """See that no token, text or number was logged, and that nothing went wrong unexpectedly."""
    for private in (TOKEN, "35699000", "3569900", "Grazzi", "Traceback", "action=unexpected_error"):
        assert private not in web.output, web.output


def files(folder: Path, pattern: str) -> list[str]:
    """Name the files of a spool's folder."""
    return sorted(path.name for path in folder.glob(pattern))
