"""The stream: entries that are added once, in one round trip for a batch.

    <key>            the stream: id (the event's), kind ("report" or "reply"), event (its one JSON form)
    {<key>}:ids      a set: the ids of the events that were added last, up to REMEMBERED of them
    {<key>}:previous-ids   the set before that one

Entry and mark are made in one step, a script, so neither a worker that dies nor an answer that gets lost makes a second
entry. (The newest Redis tells repeated entries apart by itself, XADD … IDMP, but for no more than 300 seconds.)
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from callbacks import Event

# Many times what the processes of a handler hold in their hands, at most 5,000 events each. Some 70 bytes each, twice.
MAX_RECENT_IDS: Final = 100_000
# A stream that nobody adds to any more gives this memory back.
_IDS_TTL_SECONDS: Final = 7 * 86_400
# While a script runs, Redis does nothing else: so many entries take it a millisecond or two.
_BATCH_EVENTS: Final = 500
_BATCH_BYTES: Final = 1 << 20

# An error of XADD comes before any entry (the memory is full, Redis may only be read), or ends the run; what has been
# added by then is marked either way.
_SCRIPT: Final = """
local stream, now, before = KEYS[1], KEYS[2], KEYS[3]
local most, remembered, seconds = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local kind = redis.call('TYPE', stream).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE it is a ' .. kind .. ', not a stream')
end
local ids = {}
for i = 4, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local known = redis.call('SMISMEMBER', now, unpack(ids))
local known_before = redis.call('SMISMEMBER', before, unpack(ids))
local added, failed = {}, nil
for i, id in ipairs(ids) do
  if known[i] == 0 and known_before[i] == 0 then
    local answer
    if most == '' then
      answer = redis.pcall('XADD', stream, '*', 'id', id, 'kind', ARGV[3 * i + 2], 'event', ARGV[3 * i + 3])
    else
      answer = redis.pcall(
        'XADD', stream, 'MAXLEN', '~', most, '*', 'id', id, 'kind', ARGV[3 * i + 2], 'event', ARGV[3 * i + 3])
    end
    if type(answer) == 'table' and answer.err then
      failed = answer
      break
    end
    added[#added + 1] = id
  end
end
if #added > 0 then
  redis.call('SADD', now, unpack(added))
  redis.call('EXPIRE', now, seconds)
  if redis.call('SCARD', now) >= remembered then
    redis.call('UNLINK', before)
    redis.call('RENAME', now, before)
  end
end
return failed or #added
"""


class RedisStream:
    """One stream of one Redis. `most` is about how many entries it keeps; None: all."""

    def __init__(self, client: Any, key: str, *, max_entries: int | None, max_ids: int = MAX_RECENT_IDS) -> None:
        self._client = client
        # Keys with the same part in braces live together in a cluster.
        tag = key if "{" in key else f"{{{key}}}"
        self._keys = (key, f"{tag}:ids", f"{tag}:previous-ids")
        self._limits = ("" if max_entries is None else max_entries, max_ids, _IDS_TTL_SECONDS)

    def add(self, events: Sequence[Event]) -> None:
        """Add an entry for each event that has none. Raises redis.RedisError and OSError; then, some may have been."""
        with self._client.pipeline(transaction=False) as pipe:
            for arguments in _batches(events):
                pipe.execute_command("EVAL", _SCRIPT, len(self._keys), *self._keys, *self._limits, *arguments)
            # An error that `execute` raised would quote the command, with the events in it.
            answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer


def _batches(events: Sequence[Event]) -> Iterator[list[str]]:
    """Give id, kind and JSON of each event, in lists that one script takes."""
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
