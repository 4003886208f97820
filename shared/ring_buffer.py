"""What was counted lately, in buckets of time: a hash of Redis that is used as a ring, so that it stays small.

Processes add to it in the script that pushes their metrics (`shared.metrics_push`). All times are Redis's, since the
clocks of machines differ. The hash expires when its last bucket is out of date.

    <bucket % slots>    {"bucket": unix seconds / bucket_seconds, "<name>": n, …}
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from msgspec import Struct

# Spreads growth evenly over the time in which it happened: seconds usually, minutes after Redis was unavailable.
#   slots, length          of the ring: how many buckets, and of how many seconds
#   now, ended, seconds    unix time of Redis; how many seconds ago the growth ended, and how long it took
#   first, last            where in ARGV its names and numbers stand
ADD_LUA: Final = """
local function add_to_ring(key, slots, length, now, ended, seconds, first, last)
  local newest = math.floor((now - ended) / length)
  local oldest = math.floor((now - ended - seconds) / length)
  local buckets = newest - oldest + 1
  for bucket = math.max(oldest, math.floor(now / length) - slots + 1), newest do
    local grown, index = {}, bucket - oldest
    for i = first, last, 2 do
      local number = tonumber(ARGV[i + 1])
      local share = math.floor(number * (index + 1) / buckets) - math.floor(number * index / buckets)
      if share > 0 then grown[ARGV[i]] = share end
    end
    if next(grown) then
      local text = redis.call('HGET', key, bucket % slots)
      local held = text and cjson.decode(text)
      if not held or held.bucket ~= bucket then held = {bucket = bucket} end
      for name, share in pairs(grown) do held[name] = (held[name] or 0) + share end
      redis.call('HSET', key, bucket % slots, cjson.encode(held))
      redis.call('EXPIRE', key, slots * length)
    end
  end
end
"""


class RingBuffer(Struct, frozen=True):
    """A ring of `slots` buckets of `bucket_seconds` each."""

    key: str
    bucket_seconds: int
    slots: int

    @property
    def lifetime_seconds(self) -> int:
        """How long the ring is kept after the last growth."""
        return self.slots * self.bucket_seconds

    def bucket_at(self, seconds: float) -> int:
        """Return the number of the bucket of a time in Unix seconds."""
        return int(seconds // self.bucket_seconds)


def parse(fields: Mapping[bytes, bytes]) -> dict[int, dict[str, Any]]:
    """Return what a ring holds, by the number of the bucket; the caller leaves out what is too old."""
    held = map(orjson.loads, fields.values())
    return {int(counts["bucket"]): counts for counts in held}
