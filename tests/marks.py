"""The marks of events seen, as tests read them, let them end, and let time pass for them."""

from typing import Any

from shared import keys


def read(client: Any) -> set[bytes]:
    """Return all marks."""
    found: set[bytes] = set()
    for key in _sets(client):
        found |= client.smembers(key)
    return found - {b""}


def forget(client: Any) -> None:
    """Delete all marks."""
    client.delete(keys.SEEN, *_sets(client))


def age(client: Any, milliseconds: int) -> None:
    """Make all generations of marks older."""
    for name, value in sorted(client.hgetall(keys.SEEN).items(), key=lambda field: int(field[0])):
        older = str(int(name) - milliseconds)
        client.hdel(keys.SEEN, name)
        client.hset(keys.SEEN, older, value)
        for key in client.scan_iter(f"{keys.SEEN}:{name.decode()}:*"):
            client.rename(key, f"{keys.SEEN}:{older}:{key.decode().rpartition(':')[2]}")


def _sets(client: Any) -> list[bytes]:
    return list(client.scan_iter(f"{keys.SEEN}:*", count=1000))
