-- Put a coalesced job that this release cannot read back to the end of its queue. From now on it runs alone: no other
-- run coalesces it, only to release it again.
--
-- KEYS  1 the queue's list   2 list of the coalesced jobs   3 the job's hash
-- ARGV  1 the job's id
-- Returns 1 if this has put the job into the queue, else 0
require_type('list', KEYS[1])
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HEXISTS', KEYS[3], 'data') == 0 then return 0 end
redis.call('HSET', KEYS[3], 'isolated', 1)
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
