"""Every key of a Redis as JSON, byte for byte (as Latin-1), with its type and lifetime; and back."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import redis

# `type`, `value`, and `ms` if it ends.
StoredKey: TypeAlias = dict[str, Any]


def read(connection: redis.Redis) -> dict[str, StoredKey]:
    """Return every key with what it holds."""
    client: Any = connection  # whose types do not know that it answers in bytes
    found: dict[str, StoredKey] = {}
    for key in sorted(client.scan_iter(count=1000)):
        kind, lifetime_ms = client.type(key).decode(), client.pttl(key)
        found[_text(key)] = {"type": kind, "value": _read_value(client, key, kind)}
        if lifetime_ms > 0:
            found[_text(key)]["ms"] = lifetime_ms
    return found


def write(client: redis.Redis, stored: Mapping[str, StoredKey]) -> None:
    """Write what `read` returned into an empty Redis."""
    for name, one in stored.items():
        key, value = _bytes(name), one["value"]
        match one["type"]:
            case "string":
                client.set(key, _bytes(value))
            case "list":
                client.rpush(key, *map(_bytes, value))
            case "set":
                client.sadd(key, *map(_bytes, value))
            case "zset":
                client.zadd(key, {_bytes(member): score for member, score in value})
            case "hash":
                client.hset(key, mapping={_bytes(field): _bytes(held) for field, held in value.items()})
            case "stream":
                for entry, fields in value:
                    client.xadd(key, {_bytes(field): _bytes(held) for field, held in fields.items()}, id=entry)
            case kind:
                raise ValueError(f"{name} is a {kind}: write here how that is read and written")
        if "ms" in one:
            client.pexpire(key, one["ms"])


def _read_value(client: Any, key: bytes, kind: str) -> Any:
    match kind:
        case "string":
            return _text(client.get(key))
        case "list":
            return [_text(value) for value in client.lrange(key, 0, -1)]
        case "set":
            return sorted(map(_text, client.smembers(key)))
        case "zset":
            return [[_text(member), score] for member, score in client.zrange(key, 0, -1, withscores=True)]
        case "hash":
            return {_text(field): _text(value) for field, value in sorted(client.hgetall(key).items())}
        case "stream":
            return [[_text(entry), _texts(fields)] for entry, fields in client.xrange(key)]
    raise ValueError(f"{_text(key)} is a {kind}: write here how that is read and written")


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_text(field): _text(value) for field, value in fields.items()}


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
