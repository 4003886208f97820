"""A crash can leave half a transaction at the end of the append-only file: what is accepted afterwards must outlive it.

Redis drops the half command and keeps the beginning of the transaction (corrected in the newest Valkey, pull request
4342). All that it writes from then on is inside that transaction: at the next start it is dropped, or done with it.
"""

from pathlib import Path

from shared import durability, durability_findings
from shared.durability_findings import Finding
from tests.redis_server import RedisServer, StartRedis, require_redis
from tests.web_process import StartWeb, kept, report, until

# As fan-out begins: marks of events that were seen, of which the deliveries were never written.
HALF_A_TRANSACTION = (
    b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$9\r\ncb:t:half\r\n$1\r\n1\r\n*3\r\n$5\r\nRPUSH\r\n$15\r\nrq:queue:exp"
)


def crash_amid_a_transaction(server: RedisServer) -> None:
    """Kill the server, and leave its file as a crash amid a write does."""
    server.kill()
    newest = max(Path(server.folder).rglob("*.aof"), key=lambda file: file.stat().st_mtime_ns)
    with newest.open("ab") as file:
        file.write(HALF_A_TRANSACTION)


def tail_of(server: RedisServer, *, can_rewrite: bool = True) -> Finding | None:
    """Return the finding about the end of the file."""
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        durability.query(pipe)
        found = durability.evaluate("fsync", pipe.execute(raise_on_error=False), can_rewrite=can_rewrite)
    return next((finding for finding in found if finding.name == "aof_rewritten"), None)


def test_what_is_accepted_after_a_crash_amid_a_transaction_outlives_the_next_crash(
    start_redis: StartRedis, start_web: StartWeb
) -> None:
    server = start_redis()
    web = start_web(server)
    until(web.ready)
    assert web.post(report(1)).status_code == 200

    crash_amid_a_transaction(server)
    server.start()
    until(lambda: web.post(report(2)).status_code == 200)
    assert web.post(report(3)).status_code == 200
    server.kill()
    server.start()

    assert [callback.body.encode() for callback in kept(server)] == [report(1), report(2), report(3)]
    with server.client() as client:
        assert not client.exists("cb:t:half"), "half a transaction was done"


def test_what_was_spooled_meanwhile_outlives_the_next_crash(
    start_redis: StartRedis, start_web: StartWeb, tmp_path: Path
) -> None:
    server = start_redis()
    web = start_web(server, CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    until(web.ready)
    crash_amid_a_transaction(server)
    for number in range(5):
        assert web.post(report(number)).status_code == 200
    server.start()
    until(lambda: len(kept(server)) == 5)
    server.kill()
    server.start()

    assert [callback.body.encode() for callback in kept(server)] == [report(number) for number in range(5)]
    with server.client() as client:
        assert not client.exists("cb:t:half"), "half a transaction was done"


def test_redis_alone_loses_it(start_redis: StartRedis) -> None:
    """If this fails, Redis has learned it: then only older versions need the rewrite."""
    require_redis()
    server = start_redis()
    crash_amid_a_transaction(server)
    server.start()
    with server.client() as client:
        client.set("acknowledged", 1)
    server.kill()
    server.start()
    with server.client() as client:
        assert client.get("acknowledged") is None


def test_the_file_counts_once_it_was_rewritten_since_redis_started(start_redis: StartRedis) -> None:
    server = start_redis()
    found = tail_of(server)
    assert found is not None
    assert not found.ok
    assert "BGREWRITEAOF" in found.remedy
    with server.client() as client:
        client.bgrewriteaof()
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    assert tail_of(server) == Finding("aof_rewritten", ok=True, detail="since Redis started")


def test_a_redis_that_refuses_a_torn_file_needs_no_rewrite(start_redis: StartRedis) -> None:
    found = tail_of(start_redis({"aof-load-truncated": "no"}))
    assert found is not None
    assert found.ok
    assert not found.remedy


def test_where_the_rewrite_is_forbidden_callbacks_are_taken_with_a_warning(
    start_redis: StartRedis, start_web: StartWeb
) -> None:
    server = start_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-bgrewriteaof")
    web = start_web(server.url.replace("redis://", "redis://limited:pw@"))
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    until(lambda: 'action=durability_unverified check="aof_rewritten' in web.output)
    with server.client() as client:
        assert client.info("persistence")["aof_last_rewrite_time_sec"] == -1


def test_a_rewrite_that_fails_refuses_no_callback() -> None:
    info = {"aof_enabled": 1, "aof_last_rewrite_time_sec": -1, "aof_last_bgrewrite_status": "err"}
    config = {"appendonly": "yes", "appendfsync": "always", "aof-load-truncated": "yes"}
    findings = durability_findings.evaluate_config("fsync", config, info, can_rewrite=True)
    (found,) = (finding for finding in findings if finding.name == "aof_rewritten")
    assert found.ok
    assert found.remedy


def test_a_rewrite_that_is_under_way_already_is_waited_for(start_redis: StartRedis, start_web: StartWeb) -> None:
    server = start_redis({"rdb-key-save-delay": "200000"})
    with server.client() as client:
        client.mset({f"key:{number}": number for number in range(10)})
        client.bgrewriteaof()
    web = start_web(server)
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    assert tail_of(server) == Finding("aof_rewritten", ok=True, detail="since Redis started")
