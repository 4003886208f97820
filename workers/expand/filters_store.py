"""The filters of each entry of CALLBACKS_HANDLERS, in Redis, as they were when its module could last be imported.

Events go on to the queue of a handler whose module is broken for now: none is lost to it, and nobody else waits. In
Redis, a field for each entry in `cb:filters`: the JSON array of its handlers' filters.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import redis

from shared import keys
from workers.filters import Filters

_Entry = tuple[Filters, ...]


def save(connection: redis.Redis, filters: Mapping[str, Sequence[Filters]]) -> None:
    """Keep the filters of these entries. Raises redis.RedisError."""
    if filters:
        words = [word for entry, found in filters.items() for word in (entry, msgspec.json.encode(list(found)))]
        connection.hset(keys.FILTERS, items=words)


def load(connection: redis.Redis, entries: Iterable[str]) -> dict[str, _Entry]:
    """Return the filters that are known of these entries. Raises redis.RedisError."""
    found: dict[str, _Entry] = {}
    for entry in entries:
        text = connection.hget(keys.FILTERS, entry)
        try:
            if text is not None:
                found[entry] = msgspec.json.decode(text, type=_Entry)
        except msgspec.MsgspecError:  # of another release
            continue
    return found
