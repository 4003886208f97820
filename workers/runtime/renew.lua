-- Renew the lease of a run that has not ended. RQ's own heartbeat would recreate the hash of a run that has.
--
-- KEYS  1 registry of running jobs   2 the run's hash   3 registry of the job's runs   4 set of the worker's runs
--       5 the worker's hash
-- ARGV  1 the run in the registry   2 the run's id   3 lease in seconds   4 lifetime in seconds of the keys that say whose
--       run it is   5 '1' if its worker was asked to stop: if it dies from now on, the stop killed it and not the item
--       that it was working on
-- Returns 1, or 0 if the run has ended
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local now = math.floor(now_ms() / 1000)
local ends = now + tonumber(ARGV[3])
redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[1])
redis.call('ZADD', KEYS[3], 'XX', ends, ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[4])
redis.call('HSET', KEYS[2], 'last_heartbeat', now)
if ARGV[5] == '1' then redis.call('HSET', KEYS[2], 'stopping', 1) end
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('EXPIRE', KEYS[4], ARGV[4])  -- RQ lets the hash of a worker expire that is busy for longer than its lease
redis.call('EXPIRE', KEYS[5], ARGV[3] + 60)
return 1
