"""A Redis stream: each event is added once, with one round trip for a batch.

    <key>                  the stream: id (the event's), kind ("report" or "reply"), event (its JSON)
    {<key>}:ids            a set: the ids of the events that were added last, at most MAX_RECENT_IDS
    {<key>}:previous-ids   the set before that one

A script adds the entry and its id in one step, so neither a worker that dies nor a lost reply makes a second entry.
(The newest Redis detects repeated entries itself, XADD … IDMP, but only for 300 seconds.)
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from callbacks import Event

# Many times the events in flight of a handler's processes, at most 5,000 each. An id takes 70 bytes; two sets are kept.
MAX_RECENT_IDS: Final = 100_000
# The ids of a stream that is not used any more expire.
_IDS_TTL_SECONDS: Final = 7 * 86_400
# Redis does nothing else while a script runs: this many entries take a millisecond or two.
_BATCH_EVENTS: Final = 500
_BATCH_BYTES: Final = 1 << 20

# XADD fails at the first entry (memory full, read-only) or in between; the ids of the entries added before are recorded
# in both cases.
_SCRIPT: Final = """
local stream, current, previous = KEYS[1], KEYS[2], KEYS[3]
local max_entries, max_ids, ttl_seconds = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local kind = redis.call('TYPE', stream).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE it is a ' .. kind .. ', not a stream')
end
local ids = {}
for i = 4, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local known_current = redis.call('SMISMEMBER', current, unpack(ids))
local known_previous = redis.call('SMISMEMBER', previous, unpack(ids))
local added, failed = {}, nil
for i, id in ipairs(ids) do
  if known_current[i] == 0 and known_previous[i] == 0 then
    local reply
    if max_entries == '' then
      reply = redis.pcall('XADD', stream, '*', 'id', id, 'kind', ARGV[3 * i + 2], 'event', ARGV[3 * i + 3])
    else
      reply = redis.pcall(
        'XADD', stream, 'MAXLEN', '~', max_entries, '*', 'id', id, 'kind', ARGV[3 * i + 2], 'event', ARGV[3 * i + 3])
    end
    if type(reply) == 'table' and reply.err then
      failed = reply
      break
    end
    added[#added + 1] = id
  end
end
if #added > 0 then
  redis.call('SADD', current, unpack(added))
  redis.call('EXPIRE', current, ttl_seconds)
  if redis.call('SCARD', current) >= max_ids then
    redis.call('UNLINK', previous)
    redis.call('RENAME', current, previous)
  end
end
return failed or #added
"""


class RedisStream:
    """One stream of one Redis, which keeps about the latest `max_entries` entries; None: all."""

    def __init__(self, client: Any, key: str, *, max_entries: int | None, max_ids: int = MAX_RECENT_IDS) -> None:
        self._client = client
        # In a cluster, keys with the same part in braces are in the same slot.
        tag = key if "{" in key else f"{{{key}}}"
        self._keys = (key, f"{tag}:ids", f"{tag}:previous-ids")
        self._limits = ("" if max_entries is None else max_entries, max_ids, _IDS_TTL_SECONDS)

    def add(self, events: Sequence[Event]) -> None:
        """Add an entry for each event that has none. Raise RedisError or OSError; then some may have been added."""
        with self._client.pipeline(transaction=False) as pipe:
            for arguments in _batches(events):
                pipe.execute_command("EVAL", _SCRIPT, len(self._keys), *self._keys, *self._limits, *arguments)
            # An error raised by `execute` would quote the command, which contains the events.
            answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer


def _batches(events: Sequence[Event]) -> Iterator[list[str]]:
    """Yield lists of id, kind and JSON of each event, each short enough for one script."""
    batch: list[str] = []
    size_bytes = 0
    for event in {event.id: event for event in events}.values():
        text = event.to_json()
        if batch and (len(batch) >= 3 * _BATCH_EVENTS or size_bytes + len(text) > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch += (event.id, event.kind, text)
        size_bytes += len(text)
    if batch:
        yield batch
