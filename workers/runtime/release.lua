-- Put a job that was taken along, and that this release cannot read, back to the end of its queue. From now on it runs
-- alone: nobody else takes it along, to leave it again.
--
-- KEYS  1 the queue's list   2 the list of the jobs taken along   3 the job's hash
-- ARGV  1 the job's id
-- Gives 1 if the job is in the queue by this, else 0
require_type('list', KEYS[1])
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HEXISTS', KEYS[3], 'data') == 0 then return 0 end
redis.call('HSET', KEYS[3], 'isolated', 1)
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
