"""What a release leaves in Redis, as a file of JSON: `tests/payloads/stored/` has one for each.

    .venv/bin/python -m tests.integration.runtime.stored_formats URL > tests/payloads/stored/VERSION.json

writes down what stands in the Redis at URL; hashes, lists, sets and sorted sets, byte for byte (as Latin-1).
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import redis

from tests.acceptance.processes import REPOSITORY

STORED: Final = REPOSITORY / "tests" / "payloads" / "stored"


def append_lines(connection: redis.Redis) -> dict[str, Any]:
    """Return every key of ours and RQ's with what it holds; running workers and lifetimes are left out."""
    client: Any = connection  # whose types do not know that it answers in bytes
    kept: dict[str, Any] = {}
    for key in sorted(client.scan_iter(count=1000)):
        name, kind = key.decode("latin-1"), client.type(key).decode()
        if name.startswith(("rq:worker", "rq:clean", "rq:executions", "cb:seen")):
            continue
        if kind == "hash":
            kept[name] = {_text(field): _text(value) for field, value in client.hgetall(key).items()}
        elif kind == "list":
            kept[name] = [_text(value) for value in client.lrange(key, 0, -1)]
        elif kind == "zset":
            kept[name] = [[_text(member), score] for member, score in client.zrange(key, 0, -1, withscores=True)]
        elif kind == "set":
            kept[name] = {"members": sorted(map(_text, client.smembers(key))), "set": True}
        else:
            kept[name] = _text(client.get(key) or b"")
    return kept


def put_back(client: redis.Redis, kept: dict[str, Any]) -> None:
    """Write into an empty Redis what `write_down` gave."""
    for name, held in kept.items():
        key = name.encode("latin-1")
        if isinstance(held, str):
            client.set(key, held.encode("latin-1"))
        elif isinstance(held, list) and isinstance(held[0], list):
            client.zadd(key, {member.encode("latin-1"): score for member, score in held})
        elif isinstance(held, list):
            client.rpush(key, *(value.encode("latin-1") for value in held))
        elif held.get("set") is True:
            client.sadd(key, *(member.encode("latin-1") for member in held["members"]))
        else:
            client.hset(key, mapping={f.encode("latin-1"): v.encode("latin-1") for f, v in held.items()})


def read(file: Path) -> dict[str, Any]:
    """Read one of the files."""
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def _text(value: bytes) -> str:
    return value.decode("latin-1")


if __name__ == "__main__":
    with redis.Redis.from_url(sys.argv[1]) as asked:
        sys.stdout.write(json.dumps(append_lines(asked), indent=1) + "\n")
