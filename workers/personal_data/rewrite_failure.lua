-- Replace the body of a quarantined callback by one with fewer records, if it is as it was read. Behind types.lua.
--
-- KEYS  1 the failure   2 the quarantine's bytes   3 counters
-- ARGV  SHA-1 of its body, the new body, how many records it counts as, how many fewer that is, the counter that falls and
--       the one that rises
-- Returns 1, or 0 if it was not changed
require_type('hash', KEYS[1])
require_type('string', KEYS[2])
require_integer(redis.call('GET', KEYS[2]), KEYS[2])
require_counters(KEYS[3])
local found = redis.call('HMGET', KEYS[1], 'body', 'records', 'bytes')
if not found[1] or redis.sha1hex(found[1]) ~= ARGV[1] then return 0 end
local change = #ARGV[2] + #ARGV[3] - #found[1] - #found[2]
redis.call('HSET', KEYS[1], 'body', ARGV[2], 'records', ARGV[3], 'bytes', tonumber(found[3] or 0) + change)
redis.call('INCRBY', KEYS[2], change)
redis.call('HINCRBY', KEYS[3], ARGV[5], 0 - ARGV[4])
redis.call('HINCRBY', KEYS[3], ARGV[6], ARGV[4])
return 1
