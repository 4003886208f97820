-- Shared beginning of the scripts that drop failures: of the quarantine, or of a handler's dead letters.
--
-- KEYS  1 the list's index   2 its bytes   3 counters
-- ARGV  prefix of a failure's hash, how many kinds, each with the counter that falls and the one that rises
local index, bytes_key, counters, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
require_type('zset', index)
require_type('string', bytes_key)
require_integer(redis.call('GET', bytes_key), bytes_key)
require_counters(counters)
local falls, rises = {}, {}
local position = 2
for _ = 1, tonumber(ARGV[2]) do
  falls[ARGV[position + 1]], rises[ARGV[position + 1]] = ARGV[position + 2], ARGV[position + 3]
  position = position + 3
end

-- Drop one failure and count it as dropped; return its bytes, or false if it is gone.
local function drop(id)
  local key = prefix .. id
  local found = redis.call('HMGET', key, 'kind', 'records', 'bytes')
  local kind, records, bytes = found[1], tonumber(found[2] or 1), tonumber(found[3] or 0)
  -- A dead letter's kind is the first word of its event.
  if not kind then kind = (redis.call('HGET', key, 'event') or ''):match('^%["(%a+)"') end
  redis.call('ZREM', index, id)
  local existed = redis.call('UNLINK', key) == 1
  if existed then
    redis.call('DECRBY', bytes_key, bytes)
    if falls[kind] then
      redis.call('HINCRBY', counters, falls[kind], -records)
      redis.call('HINCRBY', counters, rises[kind], records)
    end
  end
  if redis.call('EXISTS', index) == 0 then redis.call('DEL', bytes_key) end
  return existed and bytes
end
