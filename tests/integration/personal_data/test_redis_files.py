"""The files of Redis hold nothing of what was erased once the command has ended."""

from pathlib import Path
from typing import Any

from tests.redis_server import RedisServer, StartRedis
from workers.personal_data.redis_files import RedisFiles

TEXT = b"my words about it"


def files(server: RedisServer) -> bytes:
    with server.client() as client:
        folder = Path(client.config_get("dir")["dir"])
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_append_only_file_and_the_dump_are_written_anew(start_redis: StartRedis) -> None:
    server = start_redis({"save": "3600 1", "rdbcompression": "no"})
    with server.client() as client:
        client.set("key", TEXT)
        client.save()
        client.bgrewriteaof()
        client.delete("key")
        assert TEXT in files(server)

        result = RedisFiles(client).rewrite()

    assert result.is_complete
    assert result.why == "written anew: append-only file, dump"
    assert TEXT not in files(server)


def test_the_slow_log_has_no_argument_of_before(start_redis: StartRedis) -> None:
    server = start_redis({"slowlog-log-slower-than": "0"})
    with server.client(decode_responses=False) as client:
        client.set("key", TEXT)
        assert TEXT in repr(client.slowlog_get(100)).encode()

        RedisFiles(client).rewrite()

        assert TEXT not in repr(client.slowlog_get(100)).encode()


def test_a_right_that_is_missing_is_named(start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-bgrewriteaof")
        limited: Any = client.__class__(port=server.port, username="limited", password="pw", decode_responses=True)
        with limited:
            result = RedisFiles(limited).rewrite()

    assert not result.is_complete
    assert "bgrewriteaof" in result.why


def test_it_waits_no_longer_than_it_may(start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as client:
        # A child that writes slowly: a key takes it 10 s.
        client.config_set("rdb-key-save-delay", 10_000_000)
        client.set("key", TEXT)
        client.bgrewriteaof()

        result = RedisFiles(client, wait_seconds=0.0).rewrite()

        client.config_set("rdb-key-save-delay", 0)
    assert not result.is_complete
    assert "took longer" in result.why
