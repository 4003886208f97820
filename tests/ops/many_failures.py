"""FailureStore with very many entries, made inside Redis in seconds, and a count of what a page costs it."""

from typing import Any, Final

import httpx
import redis

from shared import keys

NEWEST_MS: Final = 1_790_000_000_000
# This many are made in one script: Redis answers nobody meanwhile, on a busy machine for longer than clients wait.
_PART: Final = 10_000

# As workers/runtime/settlement.lua and shared/batches.py write them; every tenth has another error.
_FILL: Final = """
local index, counter, newest, event = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local first, number = tonumber(ARGV[4]), tonumber(ARGV[5])
for i = first, first + number - 1 do
  local id = string.format('%024x', i)
  local key, err = index .. ':' .. id, i % 10 == 0 and 'ValueError: rare' or 'TimeoutError: usual'
  if event == '' then
    redis.call('HSET', key, 'bytes', 900, 'kind', '', 'source', 'gw', 'received_ms', newest - i, 'records', 1,
      'error', err, 'body', '{"data":[{"message_id":"' .. i .. '","status":"SEEN","to":"35699000001"}]}')
  else
    redis.call('HSET', key, 'bytes', 900, 'event', event, 'error', err, 'traceback', '', 'attempts', 8,
      'died_ms', newest - i)
  end
  redis.call('ZADD', index, newest - i, id)
end
redis.call('INCRBY', index .. ':bytes', 900 * number)
redis.call('HINCRBY', KEYS[2], counter, number)
redis.call('HINCRBY', KEYS[2], (counter:gsub('dead', 'queued'):gsub('quarantined', 'received')), number)
"""


def quarantine(client: redis.Redis, number: int) -> None:
    """Put `number` callbacks into the quarantine, counted as such; each can be read by now."""
    _fill(client, keys.QUARANTINE, keys.counter("unknown", "quarantined"), number, b"")


def dead_letters(client: redis.Redis, handler: str, number: int, event: bytes) -> None:
    """Make `number` dead letters of a handler, counted as such; all are copies of one event."""
    _fill(client, keys.dead(handler), keys.handler_counter(handler, "report", "dead"), number, event)


def _fill(client: Any, index: str, counter: str, number: int, event: bytes) -> None:
    for first in range(0, number, _PART):
        part = min(_PART, number - first)
        client.eval(_FILL, 2, index, keys.COUNTS, counter, NEWEST_MS, event, first, part)


def cost(client: Any, page: httpx.Client, path: str, **form: Any) -> tuple[int, int]:
    """Ask a page, and give how many commands that took, those of scripts too, and how many bytes Redis answered."""

    def spent() -> tuple[int, int]:
        stats = client.info("commandstats").items()
        calls = sum(one["calls"] for name, one in stats if "info" not in name and "client" not in name)
        return calls, client.info("stats")["total_net_output_bytes"]

    before = spent()
    answer = page.post(path, data=form) if form else page.get(path)
    after = spent()
    assert answer.status_code == 200, answer.text
    return after[0] - before[0], after[1] - before[1]
