"""If Redis answers before it has synced (everysec, or an unknown setting), a commit waits for its fsync: WAITAOF.

These need Redis 7.2 or newer. A rewrite of the file is used to hold back the fsync: with no-appendfsync-on-rewrite
Redis syncs nothing as long as it goes on.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import pytest

from tests.acceptance.processes import run
from tests.integration.spool.spool_checks import configure, drained, readiness
from tests.redis_server import RedisServer, require_newer
from tests.web_process import StartWeb, WebProcess, kept, quarantine, report, until

StartNewer: TypeAlias = Callable[..., RedisServer]

HELD_BACK: Final = {"appendfsync": "everysec", "no-appendfsync-on-rewrite": "yes"}


@pytest.fixture
def start_newer() -> Iterator[StartNewer]:
    """Return a function that starts a server with WAITAOF."""
    newer = require_newer((7, 2))
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(
            RedisServer({name.replace("_", "-"): value for name, value in options.items()}, server=newer)
        )


@contextmanager
def unsynced(server: RedisServer) -> Iterator[None]:
    """Keep Redis from syncing in this context: a rewrite of its file runs, and takes a long time for each key."""
    with server.client() as client:
        client.set("slow", 1)
        client.config_set("rdb-key-save-delay", 100_000_000)
        client.bgrewriteaof()
        until(lambda: rewriting(client))
        try:
            yield
        finally:
            # Without save points the child process ends at once, and the delayed data are synced.
            client.config_set("appendonly", "no")
            until(lambda: not rewriting(client))
            client.config_set("rdb-key-save-delay", 0)
            client.config_set("appendonly", "yes")
            until(lambda: not rewriting(client))


def rewriting(client: Any) -> bool:
    return bool(client.info("persistence")["aof_rewrite_in_progress"])


class CommandRecorder:
    """The commands that a server gets while this is open."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        monitored: Any = self._client  # redis-py's reply has no type
        self._monitor = monitored.monitor()

    def __enter__(self) -> Self:
        self._monitor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._monitor.__exit__(*error)
        self._client.close()

    def waits(self) -> set[str]:
        """Return what commits have waited for since the last call, without the gate's own commands."""
        self._client.echo("over")
        said = []
        for command in self._monitor.listen():
            if command["command"] == "ECHO over":
                break
            said.append(command["command"])
        assert "EXEC" in said
        return {command for command in said if command.startswith("WAIT")} - {"WAITAOF 0 0 0"}


def fsync_check(web: WebProcess) -> dict[str, Any]:
    found: dict[str, Any] = readiness(web)["checks"]["appendfsync"]
    return found


def test_with_everysec_a_commit_waits_and_always_is_not_required(start_newer: StartNewer, start_web: StartWeb) -> None:
    server = start_newer(appendfsync="everysec")
    web = start_web(server)
    until(web.ready)
    with CommandRecorder(server) as recorder:
        assert web.post(report(1)).status_code == 200
        assert recorder.waits() == {"WAITAOF 1 0 4000"}
    check = fsync_check(web)
    assert check["ok"]
    assert check["detail"] == "everysec; each commit waits for its fsync (WAITAOF)"
    assert "delivered twice" in check["remedy"]
    assert web.output.count("action=durability_unverified") == 1


def test_i1_no_200_is_sent_before_the_fsync(start_newer: StartNewer, start_web: StartWeb) -> None:
    server = start_newer(**HELD_BACK)
    web = start_web(server)
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    with unsynced(server):
        answer = web.post(report(2))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem-type:callbacks:store-unavailable")
    assert 'error="ResponseError NOTSYNCED"' in web.output
    until(web.ready)
    assert web.post(report(3)).status_code == 200


def test_what_is_not_synced_in_time_goes_to_the_spool(
    start_newer: StartNewer, start_web: StartWeb, tmp_path: Path
) -> None:
    server = start_newer(**HELD_BACK)
    web = start_web(server, CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    until(web.ready)
    with unsynced(server):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(web.post, map(report, range(8))))
        assert [answer.status_code for answer in answers] == [200] * 8
        assert readiness(web)["destination"] == "spool"
        assert readiness(web)["checks"]["spool"]["waiting_callbacks"] == 8
    until(lambda: drained(web))
    assert {report(number) for number in range(8)} <= {callback.body.encode() for callback in kept(server)}
    assert quarantine(server) == []


@pytest.mark.parametrize("appendfsync", ["everysec", "always"])
def test_if_config_is_forbidden_a_commit_waits_for_its_fsync(
    start_newer: StartNewer, start_web: StartWeb, appendfsync: str
) -> None:
    server = start_newer(appendfsync=appendfsync)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "web", "on", "nopass", "~*", "&*", "+@all", "-config")
    web = start_web(f"redis://web:any@127.0.0.1:{server.port}/0")
    until(web.ready)
    with CommandRecorder(server) as recorder:
        assert web.post(report(1)).status_code == 200
        assert recorder.waits() == {"WAITAOF 1 0 4000"}
    assert fsync_check(web)["detail"].startswith("unknown, as CONFIG is forbidden here; each commit waits")


def test_with_always_a_commit_does_not_wait(start_newer: StartNewer, start_web: StartWeb) -> None:
    server = start_newer()
    web = start_web(server)
    until(web.ready)
    with CommandRecorder(server) as recorder:
        assert web.post(report(1)).status_code == 200
        assert recorder.waits() == set()
        configure(server, "appendfsync", "everysec")
        until(lambda: "each commit waits" in fsync_check(web)["detail"])
        assert web.post(report(2)).status_code == 200
        assert recorder.waits() == {"WAITAOF 1 0 4000"}


def test_appendfsync_no_is_below_the_level(start_newer: StartNewer, start_web: StartWeb) -> None:
    server = start_newer(appendfsync="no")
    web = start_web(server)
    assert not fsync_check(web)["ok"]
    assert web.post(report(1)).status_code == 503
    assert kept(server) == []


def test_replica_level_waits_for_the_replicas_fsync_too(start_newer: StartNewer, start_web: StartWeb) -> None:
    server = start_newer(appendfsync="everysec", repl_diskless_sync_delay="0")
    replica = start_newer(appendfsync="everysec", replicaof=f"127.0.0.1 {server.port}")
    web = start_web(server, CALLBACKS_DURABILITY="replica")
    until(web.ready)
    with CommandRecorder(server) as recorder:
        assert web.post(report(1)).status_code == 200
        assert recorder.waits() == {"WAITAOF 1 1 4000"}
    assert len(kept(replica)) == 1
    # The replica has the callback, but no file: that is not enough.
    configure(replica, "appendonly", "no")
    assert web.post(report(2)).status_code == 503
    assert 'error="ResponseError NOREPLICAS"' in web.output
    configure(replica, "appendonly", "yes")
    until(lambda: web.post(report(3)).status_code == 200)


def test_check_says_what_everysec_means(start_newer: StartNewer, tmp_path: Path) -> None:
    server = start_newer(appendfsync="everysec")
    environment = {"CALLBACKS_TOKENS": "acme=a-long-enough-token", "REDIS_URL": server.url}
    ended = run("check", cwd=tmp_path, environment=environment)
    assert ended.returncode == 0, ended.stdout
    assert "! Redis, appendfsync: everysec; each commit waits for its fsync (WAITAOF)" in ended.stdout
    assert "CONFIG SET appendfsync always, then CONFIG REWRITE" in ended.stdout
    assert "until then no callback is lost" in ended.stdout
